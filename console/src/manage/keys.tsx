// API keys: who has which scopes, and until when.

import { request, serverNow, type Schema } from "../lib/api.ts";
import { confirm, DialogForm, openDialog } from "../lib/dialog.tsx";
import { Check, Field } from "../lib/form.tsx";
import { useAnswer } from "../lib/hooks.ts";
import { showResult } from "../lib/notices.tsx";
import { Act, Row, State, Table, Tags } from "../lib/parts.tsx";
import { Time } from "../lib/time.tsx";
import { ManagePage } from "./page.tsx";
import { showSecret } from "./secret.tsx";

type Key = Schema["KeyRead"];
type Scope = Schema["Scope"];

const SCOPES: Record<Scope, string> = {
  infer: "use models and adapters",
  publish: "register, describe and retire versions, move aliases",
  operate: "control the cache, quarantine, collect garbage",
  admin: "all, with keys, tenants and webhooks",
};
const MOST = 500;
const COLUMNS = ["Name", "Scopes", "Tenant", "State", "Created", "Last used", "Expires", "Actions"];

export function KeysPage() {
  const [page, refresh] = useAnswer("Keys", (signal) => request("get", "/api/v1/keys", { query: { limit: MOST }, signal }));
  const create = async () => {
    const action = async (form: FormData) => {
      const expires = String(form.get("expires"));
      const made = await request("post", "/api/v1/keys", {
        body: {
          name: String(form.get("name")).trim(),
          scopes: form.getAll("scope") as Scope[],
          expires_at: expires ? new Date(expires).toISOString() : null,
        } as Schema["KeyCreate"],
      });
      void showSecret(`The key ${made.name}`, made.key);
    };
    await openDialog<true>("New key", (close) => (
      <DialogForm verb="Create" action={action} close={close}>
        <Field label="Name" hint="A tenant's key begins with its name and a tilde: acme~app.">
          <input name="name" required maxLength={64} spellcheck={false} />
        </Field>
        <fieldset>
          <legend>Scopes</legend>
          {Object.entries(SCOPES).map(([scope, what]) => (
            <Check key={scope} name="scope" value={scope} label={`${scope}: ${what}`} />
          ))}
        </fieldset>
        <Field label="Expires" hint="Empty: never.">
          <input name="expires" type="datetime-local" />
        </Field>
      </DialogForm>
    ));
    await refresh();
  };
  return (
    <ManagePage title="Keys" actions={<Act label="New key …" action={create} />}>
      {page && !page.items.length && <p class="faint">There are no keys. A server that was started with --api-key needs one for each request.</p>}
      {page && page.items.length > 0 && (
        <Table label="Keys" columns={COLUMNS}>
          {page.items.map((key) => (
            <Row key={key.name} columns={COLUMNS} cells={cellsOf(key, refresh)} />
          ))}
        </Table>
      )}
      {page?.next_page_token && <p class="faint">These are the first {MOST}: <code>adaptry key list</code> has the others.</p>}
    </ManagePage>
  );
}

function cellsOf(key: Key, refresh: () => Promise<void>) {
  const rotate = async () => {
    const action = async () => {
      const made = await request("post", "/api/v1/keys/{name}/rotate", { path: { name: key.name } });
      void showSecret(`The key ${made.name}`, made.key);
    };
    const text = "A new text is made for it. The old one stays valid for 24 hours.";
    if (await confirm({ title: `Rotate ${key.name}`, verb: "Rotate", text, action })) await refresh();
  };
  const revoke = async () => {
    const action = () => request("delete", "/api/v1/keys/{name}", { path: { name: key.name } });
    const text = "Its requests are refused from now on. That can't be undone.";
    if (await confirm({ title: `Revoke ${key.name}`, verb: "Revoke", text, repeat: key.name, action })) {
      showResult(`${key.name} is revoked`);
      await refresh();
    }
  };
  const hasEnded = key.expires_at !== null && Date.parse(key.expires_at) < serverNow();
  const isValid = key.revoked_at === null && !hasEnded;
  return [
    <span class="ref">{key.name}</span>,
    <Tags of={key.scopes} />,
    key.tenant ?? "platform",
    <State of={key.revoked_at ? "revoked" : hasEnded ? "expired" : "valid"} />,
    <Time at={key.created_at} />,
    key.last_used_at ? <Time at={key.last_used_at} /> : "never",
    key.expires_at ? <Time at={key.expires_at} /> : "never",
    isValid && (
      <div class="row">
        <Act label="Rotate …" name={`Rotate ${key.name}`} action={rotate} />
        <Act label="Revoke …" name={`Revoke ${key.name}`} danger action={revoke} />
      </div>
    ),
  ];
}
