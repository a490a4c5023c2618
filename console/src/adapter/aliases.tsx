// The aliases of an adapter, each with its history.

import { request, type Schema } from "../lib/api.ts";
import { link } from "../lib/address.ts";
import { may, owns } from "../lib/caller.ts";
import { confirm } from "../lib/dialog.tsx";
import { useAnswer } from "../lib/hooks.ts";
import { showResult } from "../lib/notices.tsx";
import { Act, Row, Table } from "../lib/parts.tsx";
import { Time } from "../lib/time.tsx";
import { rollBack } from "./promote.tsx";

export type Alias = Schema["AliasRead"];

const STATES = 50;
const COLUMNS = ["Alias", "Version", "Revision", "Since", "By", "Reason", "Actions"];
const HISTORY = ["Revision", "Version", "From", "To", "By", "Reason", "Actions"];

interface Props {
  aliases: readonly Alias[];
  open: ReadonlySet<string>;
  toggle: (alias: string) => void;
  refresh: () => Promise<void>;
}

export function Aliases({ aliases, open, toggle, refresh }: Props) {
  return (
    <section>
      <h2>Aliases</h2>
      {aliases.length ? (
        <Table label="Aliases" columns={COLUMNS}>
          {aliases.map((alias) => (
            <AliasRows key={alias.alias} alias={alias} isOpen={open.has(alias.alias)} toggle={toggle} refresh={refresh} />
          ))}
        </Table>
      ) : (
        <p class="faint">No alias points at it: only references with a version, like name:1, are served.</p>
      )}
    </section>
  );
}

/** `2`, or `1 (90 %), 2 (10 %)` if it is split. */
export function versionsOf({ version, weights }: Pick<Alias, "version" | "weights">): string {
  if (weights.length === 1) return String(version);
  const whole = weights.reduce((sum, { weight }) => sum + weight, 0);
  return weights.map((each) => `${each.version} (${Math.round((100 * each.weight) / whole)} %)`).join(", ");
}

interface RowProps extends Omit<Props, "aliases" | "open"> {
  alias: Alias;
  isOpen: boolean;
}

function AliasRows({ alias, isOpen, toggle, refresh }: RowProps) {
  const [history] = useAnswer(`History of ${alias.reference}`, (signal) => readHistory(alias, signal), [alias.revision]);
  const before = history?.items.find(({ revision }) => revision < alias.revision);
  const canMove = may("publish") && owns(alias.adapter);
  const back = async () => {
    if (before && (await rollBack(alias, before))) await refresh();
  };
  const cells = [
    <span class="ref">@{alias.alias}</span>,
    versionsOf(alias),
    alias.revision,
    <Time at={alias.valid_from} />,
    alias.moved_by,
    alias.reason,
    <div class="row">
      {before && canMove && <Act label={`Roll back ${versionsOf(alias)} → ${versionsOf(before)}`} action={back} />}
      <Act label="History" expanded={isOpen} action={() => toggle(alias.alias)} />
      {canMove && <Act label="Remove …" name={`Remove ${alias.reference}`} danger action={() => remove(alias, refresh)} />}
      {may("infer") && <a href={link("/try", { a: alias.reference })}>Try it</a>}
    </div>,
  ];
  return (
    <>
      <Row columns={COLUMNS} cells={cells} />
      {isOpen && history && (
        <tr role="row" class="open">
          <td role="cell" colSpan={COLUMNS.length}>
            <History alias={alias} states={history.items} refresh={refresh} />
          </td>
        </tr>
      )}
    </>
  );
}

function readHistory({ adapter, alias }: Alias, signal: AbortSignal) {
  const path = { name: adapter, alias };
  return request("get", "/api/v1/adapters/{name}/aliases/{alias}/history", { path, query: { limit: STATES }, signal });
}

async function remove({ adapter, alias, reference, version }: Alias, refresh: () => Promise<void>) {
  const action = (reason: string | null) =>
    request("delete", "/api/v1/adapters/{name}/aliases/{alias}", {
      path: { name: adapter, alias },
      query: { expected_version: version, reason: reason ?? undefined },
    });
  const text = `Requests for ${reference} will be refused. Its history stays, and it can be set again.`;
  if (await confirm({ title: `Remove ${reference}`, verb: "Remove", text, reason: "optional", danger: true, action })) {
    showResult(`${reference} is removed`);
    await refresh();
  }
}

interface HistoryProps {
  alias: Alias;
  states: readonly Alias[];
  refresh: () => Promise<void>;
}

function History({ alias, states, refresh }: HistoryProps) {
  const back = async (state: Alias) => {
    if (await rollBack(alias, state)) await refresh();
  };
  return (
    <Table label={`History of ${alias.reference}`} columns={HISTORY}>
      {states.map((state) => {
        const isNow = state.valid_to === null;
        const cells = [
          state.revision,
          versionsOf(state),
          <Time at={state.valid_from} />,
          isNow ? "now" : <Time at={state.valid_to} />,
          state.moved_by,
          state.reason,
          isNow || !may("publish") || !owns(alias.adapter) ? null : <Act label="Back to this …" action={() => back(state)} />,
        ];
        return <Row key={state.revision} columns={HISTORY} cells={cells} />;
      })}
    </Table>
  );
}
