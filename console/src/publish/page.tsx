// Publish: drop an adapter, see it sent and inspected, and promote the version.

import { useRef, useState } from "preact/hooks";
import { request, type Schema } from "../lib/api.ts";
import { adapterLink, remember } from "../lib/address.ts";
import { Field } from "../lib/form.tsx";
import type { PageProps } from "../lib/page.ts";
import { Act, Code, State } from "../lib/parts.tsx";
import { Inspection } from "../adapter/details.tsx";
import { promote } from "../adapter/promote.tsx";
import { bytes } from "../lib/format.ts";
import { base, choose, dropped, type Chosen } from "./files.ts";
import { send, show, stop, useSending, type Phase } from "./sending.ts";

type Version = Schema["VersionRead"];

export function PublishPage({ query }: PageProps) {
  const { phase, isBusy, name: sent } = useSending();
  const [name, setName] = useState(query.get("name") || sent);
  const files = useRef<Chosen | null>(null);
  const take = async (choosing: Promise<Chosen>) => {
    files.current = null; // what was chosen before is not sent in place of what is refused
    try {
      const chosen = await choosing;
      files.current = chosen;
      if (!name) setName(chosen.name);
      show({ is: "chosen", chosen });
    } catch (error) {
      show({ is: "refused", code: "no_adapter", detail: (error as Error).message });
    }
  };
  const publish = async (event: SubmitEvent) => {
    event.preventDefault();
    const given = new FormData(event.currentTarget as HTMLFormElement);
    const text = (field: string) => String(given.get(field) ?? "").trim();
    const tags = text("tags").split(/\s+/).filter(Boolean);
    const fields = { description: text("description"), training_run: text("training_run"), tags: tags.length ? JSON.stringify(tags) : "" };
    remember("/publish", { name });
    await send(name, files.current!.files, fields);
  };
  return (
    <>
      <div class="page-head">
        <h1>Publish</h1>
        <p class="faint">Register an adapter that PEFT saved, as a new version.</p>
      </div>
      <form class="publish" onSubmit={publish}>
        <Drop take={take} isBusy={isBusy} phase={phase} />
        <div class="columns">
          <Field label="Adapter" hint="A new version of it, or a new adapter.">
            <input value={name} required maxLength={64} spellcheck={false} class="ref" onInput={(event) => setName(event.currentTarget.value.trim())} />
          </Field>
          <Field label="Tags" hint="Separated by blanks.">
            <input name="tags" spellcheck={false} />
          </Field>
          <Field label="Training run">
            <input name="training_run" maxLength={1024} />
          </Field>
          <Field label="Description">
            <input name="description" maxLength={4096} />
          </Field>
        </div>
        <div class="row">
          <button class="primary" disabled={isBusy || files.current === null}>
            Publish
          </button>
        </div>
      </form>
      <div role="status">
        <Progress phase={phase} />
      </div>
      {phase.is === "done" && <Published version={phase.version} created={phase.created} />}
    </>
  );
}

interface DropProps {
  take: (choosing: Promise<Chosen>) => Promise<void>;
  isBusy: boolean;
  phase: Phase;
}

function Drop({ take, isBusy, phase }: DropProps) {
  const [isOver, setOver] = useState(false);
  const onDrop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    if (event.dataTransfer && !isBusy) void take(dropped(event.dataTransfer.items).then(({ files, folder }) => choose(files, folder)));
  };
  const onChange = (event: Event) => void take(choose([...((event.currentTarget as HTMLInputElement).files ?? [])]));
  return (
    <div
      class={`drop${isOver ? " over" : ""}`}
      onDragOver={(event) => (event.preventDefault(), setOver(true))}
      onDragLeave={() => setOver(false)}
      onDrop={onDrop}
    >
      <p>Drop a folder, a zip or a tar here, or choose:</p>
      <div class="row">
        <Field label="Folder">
          <input type="file" disabled={isBusy} onChange={onChange} {...{ webkitdirectory: true }} />
        </Field>
        <Field label="Files or an archive">
          <input type="file" multiple disabled={isBusy} onChange={onChange} />
        </Field>
      </div>
      {phase.is === "chosen" && (
        <ul aria-label="Files to send">
          {phase.chosen.files.map((file) => (
            <li key={file.name}>
              {base(file.name)} <span class="faint">{bytes(file.size)}</span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

function Progress({ phase }: { phase: Phase }) {
  if (phase.is === "sending") {
    return (
      <p>
        <progress max={phase.total} value={phase.sent} aria-label="Sent" /> {bytes(phase.sent)} of {bytes(phase.total)} sent{" "}
        <Act label="Stop" action={stop} />
      </p>
    );
  }
  if (phase.is === "inspecting") {
    return (
      <p>
        <progress aria-label="Inspection" /> {phase.job ? `Job ${phase.job.id}: ${phase.job.step ?? phase.job.state}` : "Received, waiting for the inspection"} …
      </p>
    );
  }
  if (phase.is === "refused") {
    return (
      <p class="problem-text" role="alert">
        Refused: {phase.detail} <Code of={phase.code} />
      </p>
    );
  }
  return null;
}

function Published({ version, created }: { version: Version; created: boolean }) {
  const [aliases, setAliases] = useState<string>("");
  const open = async () => {
    const { items } = await request("get", "/api/v1/adapters/{name}/aliases", { path: { name: version.adapter } });
    if (await promote(version.adapter, version, items)) setAliases("Promoted.");
  };
  return (
    <section class="published" aria-label="The new version">
      <h2>
        <a class="ref" href={adapterLink(version.adapter, { version: String(version.number) })}>
          {version.reference}
        </a>{" "}
        <State of={version.state} />
      </h2>
      {!created && <p>These files were registered before: this is that version.</p>}
      <Inspection of={version.inspection} />
      <p class="row">
        <Act label="Promote …" action={open} />
        <a href={`#/try?a=${encodeURIComponent(version.reference)}`}>Try it</a>
        {aliases}
      </p>
    </section>
  );
}
