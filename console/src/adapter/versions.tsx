// The versions of an adapter; an open one shows its inspection and actions.

import { useState } from "preact/hooks";
import { request, type Schema } from "../lib/api.ts";
import { link } from "../lib/address.ts";
import { DialogForm, openDialog } from "../lib/dialog.tsx";
import { showResult } from "../lib/notices.tsx";
import { Why } from "../cache/why.tsx";
import { Act, Row, State, Table } from "../lib/parts.tsx";
import { Time } from "../lib/time.tsx";
import { pin, prefetch, unpin } from "../lib/cache-actions.ts";
import { may, owns } from "../lib/caller.ts";
import { bytes } from "../lib/format.ts";
import { DescriptionFields, descriptionIn } from "./about.tsx";
import type { Alias } from "./aliases.tsx";
import { Details } from "./details.tsx";
import { Lifecycle } from "./lifecycle.tsx";
import { promote } from "./promote.tsx";
import type { Places } from "./places.ts";

export type Version = Schema["VersionRead"];

const COLUMNS = ["Version", "State", "In memory", "Rank", "Size", "Registered", "Details"];
const SERVABLE = new Set(["ready", "deprecated"]);

interface Shared {
  name: string;
  aliases: readonly Alias[];
  places: Places;
  refresh: () => Promise<void>;
}

interface Props extends Shared {
  versions: readonly Version[];
  open: ReadonlySet<number>;
  toggle: (number: number) => void;
}

export function Versions({ versions, open, toggle, ...shared }: Props) {
  return (
    <section>
      <h2>Versions</h2>
      {versions.length ? (
        <Table label="Versions" columns={COLUMNS}>
          {versions.map((version) => (
            <VersionRows key={version.number} version={version} isOpen={open.has(version.number)} toggle={toggle} {...shared} />
          ))}
        </Table>
      ) : (
        <p class="faint">No version is registered.</p>
      )}
    </section>
  );
}

interface RowsProps extends Shared {
  version: Version;
  isOpen: boolean;
  toggle: (number: number) => void;
}

function VersionRows({ version, isOpen, toggle, ...shared }: RowsProps) {
  const pointing = shared.aliases.filter(({ weights }) => weights.some((each) => each.version === version.number));
  const cells = [
    <span class="ref">{version.reference}</span>,
    <>
      <State of={version.state} />
      {pointing.map(({ alias }) => (
        <span key={alias} class="tag alias">
          @{alias}
        </span>
      ))}
    </>,
    shared.places.get(version.reference)?.text ?? <span class="faint">on disk</span>,
    version.rank,
    bytes(version.size_bytes),
    <Time at={version.created_at} />,
    <Act label="Details" name={`Details of ${version.reference}`} expanded={isOpen} action={() => toggle(version.number)} />,
  ];
  return (
    <>
      <Row columns={COLUMNS} cells={cells} />
      {isOpen && (
        <tr role="row" class="open">
          <td role="cell" colSpan={COLUMNS.length}>
            <Open version={version} {...shared} />
          </td>
        </tr>
      )}
    </>
  );
}

function Open({ version, ...shared }: Shared & { version: Version }) {
  const [asked, setAsked] = useState(0);
  return (
    <>
      <Actions version={version} {...shared} onWhy={() => setAsked((n) => n + 1)} />
      {version.state_reason && (
        <p class="problem-text">
          {version.state}: {version.state_reason} {version.state_code && <code class="code">{version.state_code}</code>}
        </p>
      )}
      {version.description && <p class="lead">{version.description}</p>}
      <Details version={version} />
      <div class="why" aria-live="polite">
        {asked > 0 && <Why key={asked} reference={version.reference} />}
      </div>
    </>
  );
}

function Actions({ version, name, aliases, places, refresh, onWhy }: Shared & { version: Version; onWhy: () => void }) {
  const { reference } = version;
  const then = (action: () => Promise<unknown>) => async () => {
    await action();
    await refresh();
  };
  const isServable = SERVABLE.has(version.state);
  const compared = otherOf(version, aliases);
  return (
    <div class="row actions" role="group" aria-label={`Actions for ${reference}`}>
      {isServable && may("publish") && owns(name) && <Act label="Promote …" action={then(() => promote(name, version, aliases))} />}
      {isServable && may("publish", "operate") && owns(name) && <Act label="Probe" action={() => probe(version)} />}
      {isServable && may("operate") && owns(name) && (
        <>
          <Act label="Pin in a slot" action={then(() => pin(reference, "gpu"))} />
          <Act label="Pin in host memory" action={then(() => pin(reference, "host"))} />
          {places.get(reference)?.pinned && <Act label="Unpin" action={then(() => unpin(reference))} />}
          <Act label="Prefetch" action={then(() => prefetch(reference))} />
        </>
      )}
      <Lifecycle version={version} refresh={refresh} />
      {may("publish") && owns(name) && <Act label="Edit …" name={`Edit ${reference}`} action={then(() => edit(version))} />}
      {may("operate") && <Act label="Why?" name={`Why is ${reference} where it is?`} action={onWhy} />}
      {may("infer") && <a href={link("/try", { a: reference })}>Try it</a>}
      <a href={link("/compare", { a: compared, b: reference })}>Compare{compared && ` with ${compared.split(":")[1]}`}</a>
    </div>
  );
}

/** What one compares a version with: the one that is served by default, else the one before it. */
function otherOf({ number, adapter }: Version, aliases: readonly Alias[]): string {
  const served = aliases.find(({ alias }) => alias === "default")?.version;
  const other = served === undefined || served === number ? number - 1 : served;
  return other > 0 ? `${adapter}:${other}` : "";
}

async function probe(version: Version): Promise<void> {
  const path = { name: version.adapter, number: version.number };
  const found = await request("post", "/api/v1/adapters/{name}/versions/{number}/probe", { path });
  const difference = found.difference === null ? "" : `: it differs by ${found.difference.toPrecision(3)}`;
  showResult(found.passed ? `${version.reference} passes its probe${difference}` : `${version.reference} fails its probe: ${found.code}`);
}

async function edit(version: Version): Promise<void> {
  const path = { name: version.adapter, number: version.number };
  const action = async (form: FormData) => {
    await request("patch", "/api/v1/adapters/{name}/versions/{number}", { path, body: descriptionIn(form, version) as Schema["VersionPatch"] });
    showResult(`${version.reference} is changed`);
  };
  await openDialog<true>(`Edit ${version.reference}`, (close) => (
    <DialogForm verb="Save" action={action} close={close}>
      <DescriptionFields of={version} />
    </DialogForm>
  ));
}
