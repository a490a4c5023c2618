// Sign-in: one panel for the API key of servers that want one. ✓ stands only for an accepted key.

import { currentCaller, isSignedIn, readCaller, type Caller } from "../lib/caller.ts";
import { key, Problem } from "../lib/api.ts";
import { DialogForm, openDialog } from "../lib/dialog.tsx";
import { Field } from "../lib/form.tsx";
import { announce, clearNotices, showProblem } from "../lib/notices.tsx";
import { Facts, Tags } from "../lib/parts.tsx";

/** The button in the bar; `changed` shows the page again with another key. */
export async function setUpSignIn(changed: () => void): Promise<void> {
  const opener = document.getElementById("key")!;
  const label = () => {
    opener.textContent = isSignedIn() ? "API key ✓" : "API key";
    opener.title = isSignedIn() ? describe(currentCaller()!) : "";
  };
  const open = async () => {
    if (document.querySelector("dialog[open]")) return;
    const done = await openDialog<"used" | "removed">("Sign in", (close) => <Panel close={close} />);
    label();
    if (done === null) return;
    clearNotices();
    announce(isSignedIn() ? `Signed in: ${describe(currentCaller()!)}` : "Signed out");
    changed();
  };
  opener.addEventListener("click", () => void open());
  try {
    await readCaller();
  } catch (error) {
    showProblem(error, "Sign-in");
  }
  label();
}

function describe({ name, tenant, scopes }: Caller): string {
  return `${name}, ${tenant === null ? "platform" : `tenant ${tenant}`}: ${scopes.join(", ")}`;
}

function Panel({ close }: { close: (answer: "used" | "removed" | null) => void }) {
  const caller = currentCaller();
  const action = async (form: FormData) => {
    const before = key.get();
    key.set(String(form.get("key")).trim());
    try {
      await readCaller();
    } catch (error) {
      key.set(before);
      if (before) await readCaller().catch(() => {}); // who was signed in still is
      throw refusal(error as Problem);
    }
  };
  const remove = () => {
    key.set("");
    void readCaller().catch(() => {}).then(() => close("removed"));
  };
  return (
    <DialogForm verb="Use this key" action={action} close={(done) => close(done && "used")}>
      {isSignedIn() && caller && (
        <Facts
          of={[
            ["Signed in as", caller.name],
            ["Tenant", caller.tenant ?? "none: the platform"],
            ["Scopes", <Tags of={caller.scopes} />],
          ]}
        />
      )}
      <Field label="Key" hint="Sent as a bearer token to this server only, and deleted when the tab is closed.">
        <input name="key" type="password" autoComplete="off" spellcheck={false} required defaultValue={key.get()} />
      </Field>
      {key.get() && (
        <p>
          <button type="button" onClick={remove}>
            Remove key
          </button>
        </p>
      )}
    </DialogForm>
  );
}

function refusal(problem: Problem): Error {
  if (problem.status !== 401) return problem;
  return new Problem(401, problem.code, "This key is not accepted: it is unknown, revoked or has expired.");
}
