// Promotion, canary and rollback of an alias. Each sends the version that it expects, so that a
// concurrent move is never undone unnoticed.

import { useState } from "preact/hooks";
import { request, type Schema } from "../lib/api.ts";
import { DialogForm, openDialog } from "../lib/dialog.tsx";
import { Check, Field } from "../lib/form.tsx";
import { showResult } from "../lib/notices.tsx";
import { versionsOf, type Alias } from "./aliases.tsx";

type Version = Schema["VersionRead"];

/** Resolves to whether an alias moved. */
export async function promote(adapter: string, version: Version, aliases: readonly Alias[]): Promise<boolean> {
  const title = `Promote ${version.reference}`;
  const done = await openDialog<true>(title, (close) => (
    <Promotion adapter={adapter} version={version} aliases={aliases} close={close} />
  ));
  return done === true;
}

interface Props {
  adapter: string;
  version: Version;
  aliases: readonly Alias[];
  close: (done: true | null) => void;
}

function Promotion({ adapter, version, aliases, close }: Props) {
  const [name, setName] = useState("default");
  const [share, setShare] = useState(100);
  const [step, setStep] = useState("");
  const now = aliases.find(({ alias }) => alias === name);
  const canSplit = now !== undefined && now.version !== version.number;
  const action = async (form: FormData) => {
    const options = optionsOf(form);
    setStep(options.probe ? "Loading it into memory and probing it …" : options.warm === false ? "" : "Loading it into memory …");
    const weights = [
      { version: now?.version ?? version.number, weight: 100 - share },
      { version: version.number, weight: share },
    ];
    const target = canSplit && share < 100 ? { weights } : { version: version.number };
    try {
      const moved = await request("put", "/api/v1/adapters/{name}/aliases/{alias}", {
        path: { name: adapter, alias: name },
        body: { ...target, expected_version: now?.version ?? null, ...options },
      });
      showResult(`${moved.reference} means version ${versionsOf(moved)}`);
    } finally {
      setStep("");
    }
  };
  return (
    <DialogForm verb="Promote" action={action} close={close}>
      <Field label="Alias">
        <input name="alias" value={name} required list="known-aliases" onInput={(event) => setName(event.currentTarget.value.trim())} />
      </Field>
      <datalist id="known-aliases">
        {aliases.map(({ alias }) => (
          <option key={alias} value={alias} />
        ))}
      </datalist>
      <p class="faint" role="status">
        {expectation(now, name, version.number, canSplit ? share : 100)}
      </p>
      {canSplit && (
        <Field label={`Share of requests: ${share} %`} hint={share < 100 ? `A canary: the other ${100 - share} % stay with version ${now.version}.` : "All requests."}>
          <input type="range" min={1} max={100} value={share} onInput={(event) => setShare(Number(event.currentTarget.value))} />
        </Field>
      )}
      <Options />
      <p class="faint" role="status">
        {step}
      </p>
    </DialogForm>
  );
}

function expectation(now: Alias | undefined, name: string, target: number, share: number): string {
  if (!now) return name ? `There is no alias ${name} yet: it will be created.` : "";
  const after = share < 100 ? `${now.version} (${100 - share} %), ${target} (${share} %)` : String(target);
  return `@${name}: ${versionsOf(now)} → ${after}. It moves only if it is still at version ${now.version}.`;
}

/** The same, back to `state`, one of the alias's history. */
export async function rollBack(alias: Alias, state: Alias): Promise<boolean> {
  const action = async (form: FormData) => {
    const moved = await request("post", "/api/v1/adapters/{name}/aliases/{alias}/rollback", {
      path: { name: alias.adapter, alias: alias.alias },
      body: { revision: state.revision, expected_version: alias.version, ...optionsOf(form) },
    });
    showResult(`${moved.reference} means version ${versionsOf(moved)} again`);
  };
  const done = await openDialog<true>(`Roll back ${alias.reference}`, (close) => (
    <DialogForm verb="Roll back" action={action} close={close}>
      <p>
        <strong>
          {alias.reference}: {versionsOf(alias)} → {versionsOf(state)}
        </strong>
        , as it was in revision {state.revision}, set by {state.moved_by}. It moves only if it is still at version{" "}
        {alias.version}.
      </p>
      <Options />
    </DialogForm>
  ));
  return done === true;
}

function Options() {
  return (
    <>
      <Check label="Warm: load it into memory first" name="warm" defaultChecked />
      <Check label="Probe: generate with it first, and refuse it if that fails" name="probe" />
      <Check label="Evict the old version once it is idle" name="evict_old" />
      <Field label="Give up after (seconds)">
        <input name="timeout" type="number" min={1} max={3600} defaultValue="60" class="narrow" />
      </Field>
      <Field label="Reason" hint="Stored with the event.">
        <input name="reason" maxLength={1024} />
      </Field>
    </>
  );
}

function optionsOf(form: FormData) {
  const probe = form.has("probe");
  return {
    warm: probe || form.has("warm") ? null : false,
    probe,
    evict_old: form.has("evict_old"),
    timeout_seconds: Number(form.get("timeout")) || 60,
    reason: String(form.get("reason") ?? "").trim() || null,
  };
}
