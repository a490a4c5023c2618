// Settings in effect, and the state of database and store: for the platform's administrators.

import { useState } from "preact/hooks";
import { request, type Schema } from "../lib/api.ts";
import { Check, Field } from "../lib/form.tsx";
import { useAnswer, useInterval } from "../lib/hooks.ts";
import { Code, Facts, Row, Table, type Pair } from "../lib/parts.tsx";
import { bytes, count } from "../lib/format.ts";

type Settings = Schema["ServerSettingsRead"];
type Setting = Schema["SettingRead"];

const POLL_MS = 30_000;
const COLUMNS = ["Setting", "Value", "Of", "Meaning"];

export function AllSettings() {
  const [found, refresh] = useAnswer("All settings", (signal) => request("get", "/api/v1/settings", { signal }));
  useInterval(POLL_MS, refresh);
  if (!found) return null;
  return (
    <>
      <section>
        <h2>Database and store</h2>
        <Facts of={statesOf(found)} />
      </section>
      <Listed items={found.items} />
    </>
  );
}

function statesOf({ database, store }: Settings): Pair[] {
  const { kind, problem, schema_revision: revision, missing } = database;
  const schema = missing ? `schema ${revision ?? "none"}: ${count(missing, "migration")} missing, run adaptry db upgrade` : `schema ${revision} is the newest`;
  const room = store.free_bytes === null ? null : `${bytes(store.free_bytes)} free of ${bytes(store.total_bytes!)}`;
  return [
    ["Database", `${kind}: ${problem ?? `answers, ${schema}`}`],
    ["Store", store.problem ?? `answers, ${room}`],
  ];
}

function Listed({ items }: { items: readonly Setting[] }) {
  const [text, setText] = useState("");
  const [onlyChanged, setOnlyChanged] = useState(true);
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const isFound = ({ name, description }: Setting) => words.every((word) => `${name} ${description ?? ""}`.toLowerCase().includes(word));
  const shown = items.filter((each) => isFound(each) && (!onlyChanged || each.is_default !== true));
  return (
    <section>
      <h2>All settings</h2>
      <div class="filters">
        <Field label="Search settings">
          <input type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </Field>
        <Check label="Without defaults" checked={onlyChanged} onChange={() => setOnlyChanged(!onlyChanged)} />
      </div>
      {shown.length > 0 ? (
        <Table label="All settings" columns={COLUMNS}>
          {shown.map((each) => (
            <Row key={each.name} columns={COLUMNS} cells={[<Code of={each.name} />, <Code of={textOf(each)} wrap />, each.part, each.description]} />
          ))}
        </Table>
      ) : (
        <p class="faint" role="status">
          None is like this.
        </p>
      )}
      <p class="faint">Passwords are hidden. They hold until the server is started with others.</p>
    </section>
  );
}

function textOf({ value }: Setting): string {
  if (value === null) return "unset";
  return typeof value === "string" ? value : JSON.stringify(value);
}
