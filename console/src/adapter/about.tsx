// What an adapter is: description, owner, tags, metadata, and what its requests are served.

import { request, type Schema } from "../lib/api.ts";
import { may, owns } from "../lib/caller.ts";
import { DialogForm, openDialog } from "../lib/dialog.tsx";
import { Field } from "../lib/form.tsx";
import { showResult } from "../lib/notices.tsx";
import { linesOf, metadataIn } from "../lib/metadata.ts";
import { Act, Facts, metadataPairs, Tags } from "../lib/parts.tsx";
import { Time } from "../lib/time.tsx";

type Adapter = Schema["AdapterRead"];
type Served = "serve_chat_template" | "serve_sampling_defaults";
interface Props {
  adapter: Adapter;
  refresh: () => Promise<void>;
}

export function About({ adapter, refresh }: Props) {
  return (
    <section>
      {adapter.description && <p class="lead">{adapter.description}</p>}
      <Facts
        of={[
          ["Owner", adapter.owner],
          ["Tags", adapter.tags.length ? <Tags of={adapter.tags} /> : null],
          ["Chat template", <Setting adapter={adapter} field="serve_chat_template" what="chat template" refresh={refresh} />],
          ["Sampling defaults", <Setting adapter={adapter} field="serve_sampling_defaults" what="sampling defaults" refresh={refresh} />],
          ["Registered", <Time at={adapter.created_at} />],
          ["Updated", adapter.updated_at && <Time at={adapter.updated_at} />],
          ...metadataPairs(adapter.metadata),
        ]}
      />
      {canChange(adapter) && (
        <p class="row">
          <Act label="Edit …" name={`Edit ${adapter.name}`} action={async () => (await edit(adapter)) && refresh()} />
        </p>
      )}
    </section>
  );
}

/** Whether requests get what a version was trained with, and a button to change that. */
function Setting({ adapter, field, what, refresh }: Props & { field: Served; what: string }) {
  const isOwn = adapter[field];
  const [now, other] = isOwn
    ? ["each version's own, if it has one", "the base model's"]
    : ["the base model's", "each version's own"];
  const change = async () => {
    await patch(adapter.name, { [field]: !isOwn });
    await refresh();
  };
  return (
    <span class="row">
      {now}
      {canChange(adapter) && <Act key={other} label={`Serve ${other}`} name={`Serve ${other} ${what}`} action={change} />}
    </span>
  );
}

function canChange({ name }: Adapter): boolean {
  return may("publish") && owns(name);
}

function patch(name: string, body: Record<string, unknown>) {
  return request("patch", "/api/v1/adapters/{name}", { path: { name }, body: body as Schema["AdapterPatch"] });
}

interface Described {
  description: string | null;
  tags: readonly string[];
  metadata: Record<string, unknown>;
}

/** The fields that adapters and versions share. */
export function DescriptionFields({ of }: { of: Described }) {
  return (
    <>
      <Field label="Description">
        <textarea name="description" rows={3} maxLength={4096} defaultValue={of.description ?? ""} />
      </Field>
      <Field label="Tags" hint="Separated by blanks.">
        <input name="tags" defaultValue={of.tags.join(" ")} spellcheck={false} />
      </Field>
      <Field label="Metadata" hint="One a line: name = value. A value that is JSON is stored as such.">
        <textarea name="metadata" rows={4} spellcheck={false} defaultValue={linesOf(of.metadata)} />
      </Field>
    </>
  );
}

export function descriptionIn(form: FormData, before: Described) {
  const text = String(form.get("description")).trim();
  const metadata = metadataIn(String(form.get("metadata")));
  const removed = Object.keys(before.metadata).filter((name) => !Object.hasOwn(metadata, name));
  const changed = Object.entries(metadata).filter(
    ([name, value]) => !Object.hasOwn(before.metadata, name) || JSON.stringify(value) !== JSON.stringify(before.metadata[name]),
  );
  return {
    description: text || null,
    tags: String(form.get("tags")).split(/\s+/).filter(Boolean),
    metadata: Object.fromEntries([...changed, ...removed.map((name) => [name, null] as const)]),
  };
}

async function edit(adapter: Adapter): Promise<boolean> {
  const action = async (form: FormData) => {
    const owner = String(form.get("owner")).trim() || null;
    await patch(adapter.name, { ...descriptionIn(form, adapter), owner });
    showResult(`${adapter.name} is changed`);
  };
  const done = await openDialog<true>(`Edit ${adapter.name}`, (close) => (
    <DialogForm verb="Save" action={action} close={close}>
      <Field label="Owner">
        <input name="owner" defaultValue={adapter.owner ?? ""} maxLength={256} />
      </Field>
      <DescriptionFields of={adapter} />
    </DialogForm>
  ));
  return done === true;
}
