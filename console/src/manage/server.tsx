// The server: health of its parts, its cache's settings, servers beside it, base models, garbage collection.

import { useState } from "preact/hooks";
import { Problem, request, type Schema } from "../lib/api.ts";
import { may } from "../lib/caller.ts";
import { confirm } from "../lib/dialog.tsx";
import { Check, Field } from "../lib/form.tsx";
import { useAnswer, useInterval } from "../lib/hooks.ts";
import { showProblem, showResult } from "../lib/notices.tsx";
import { Act, Code, Facts, Row, State, Table, type Pair } from "../lib/parts.tsx";
import { Time } from "../lib/time.tsx";
import { bytes, count, freed } from "../lib/format.ts";
import { ManagePage } from "./page.tsx";
import { AllSettings } from "./settings.tsx";

type Garbage = Schema["GarbageRead"];
type Collected = Schema["VersionState"];

const POLL_MS = 5000;
const SERVERS = ["Server", "Base model", "Started", "Pins", "In host memory"];
const BASES = ["Base model", "Digest", "Versions", "Compatible with", "Since"];
const STATES: readonly Collected[] = ["retired", "rejected", "quarantined", "deprecated"];

export function ServerPage() {
  return (
    <ManagePage title="Server">
      <Health />
      <Settings />
      {may("admin") && <AllSettings />}
      <Servers />
      <Bases />
      <GarbageCollection />
    </ManagePage>
  );
}

function Health() {
  const [parts, refresh] = useAnswer("Health", readHealth);
  useInterval(POLL_MS, refresh);
  return (
    <section>
      <h2>Health</h2>
      {parts && <Facts of={parts} />}
      <p class="row">
        <a href="../metrics">Metrics</a>
        <a href="../docs">API</a>
      </p>
    </section>
  );
}

/** What was known before a server stopped answering is not known now. */
async function readHealth(signal: AbortSignal): Promise<Pair[]> {
  try {
    const ready = await fetch(new URL("../readyz", location.href), { signal, cache: "no-store" });
    const { parts } = (await ready.json()) as { parts: Record<string, string> };
    const replicas = await request("get", "/api/v1/cache", { signal }).then((cache) => cache.replicas ?? [], () => []);
    const engines = replicas.map(({ name, engine_up: isUp }) => `${name} ${isUp ? "up" : "down"}`);
    return [["Ready", <State of={ready.ok ? "yes" : "no"} />], ...Object.entries(parts), ["Engines", engines.join(", ")]];
  } catch {
    return [["Ready", <State of="no answer" />]];
  }
}

/** With the option or variable that sets each. */
function Settings() {
  const [facts] = useAnswer("Settings", readSettings);
  return (
    <section>
      <h2>Settings of the cache</h2>
      {facts && <Facts of={facts} />}
      <p class="faint">They hold until the server is started with others.</p>
    </section>
  );
}

async function readSettings(signal: AbortSignal): Promise<Pair[]> {
  const [cache, policy, history] = await Promise.all([
    request("get", "/api/v1/cache", { signal }),
    request("get", "/api/v1/cache/policy", { signal }).catch(() => null), // replicas have none together
    request("get", "/api/v1/cache/history", { signal, query: { buckets: 1 } }).then(({ keep_hours }) => `${keep_hours} hours`, noneKept),
  ]);
  const engines = cache.replicas ?? [];
  const whole = (sum: string | number) => (engines.length ? `${sum} in all` : sum);
  const set = (value: string | number, by: string) => (
    <>
      {value} <Code of={by} />
    </>
  );
  return [
    ["GPU slots", set(whole(cache.slots), "--max-loras")],
    ["Places in host memory", set(whole(cache.host_capacity), "--max-cpu-loras")],
    ["Most host memory", set(cache.host_bytes_limit ? whole(bytes(cache.host_bytes_limit)) : "no limit", "--host-cache-bytes")],
    ["Eviction policy", policy && set(policy.policy, "ADAPTRY_EVICTION_POLICY")],
    ["Candidate beside it", policy?.candidate && set(policy.candidate, "ADAPTRY_SHADOW_POLICY")],
    ["History", history && set(history, "ADAPTRY_HISTORY_HOURS")],
  ];
}

/** Of a history that can't be read at the moment, nothing is said. */
function noneKept(problem: Error): string | null {
  return problem instanceof Problem && problem.code === "history_off" ? "none" : null;
}

function Servers() {
  const [list] = useAnswer("Servers", (signal) => request("get", "/api/v1/cache/servers", { signal }));
  const items = list?.items ?? [];
  if (!items.length) return null;
  return (
    <section>
      <h2>Servers on this database</h2>
      <Table label="Servers" columns={SERVERS}>
        {items.map((each) => (
          <Row
            key={each.name}
            columns={SERVERS}
            cells={[`${each.name}${each.is_this ? " (this one)" : ""}`, each.base, <Time at={each.started_at} />, each.pins.length, each.residents.join(", ")]}
          />
        ))}
      </Table>
    </section>
  );
}

function Bases() {
  const [list] = useAnswer("Base models", (signal) => request("get", "/api/v1/bases", { signal }));
  if (!list?.items.length) return null;
  return (
    <section>
      <h2>Base models</h2>
      <Table label="Base models" columns={BASES}>
        {list.items.map((each) => (
          <Row
            key={each.digest}
            columns={BASES}
            cells={[
              <>
                {each.name} {each.is_this && <span class="tag">this server's</span>}
              </>,
              <Code of={each.digest.slice(0, 12)} />,
              <a href={`#/adapters?base=${encodeURIComponent(each.name)}`}>{each.versions}</a>,
              each.links.map(String).join(", "),
              <Time at={each.created_at} />,
            ]}
          />
        ))}
      </Table>
    </section>
  );
}

function GarbageCollection() {
  const [states, setStates] = useState<readonly Collected[]>(["retired", "rejected"]);
  const [keepLast, setKeepLast] = useState(2);
  const [days, setDays] = useState(30);
  const [found, setFound] = useState<Garbage | null>(null);
  const ask = (dry: boolean) =>
    request("post", "/api/v1/gc", {
      body: { dry_run: dry, states: [...states], keep_last: keepLast, rollback_window_days: days } as Schema["GarbageBody"],
    });
  const preview = async () => setFound(await ask(true));
  const collect = async () => {
    if (!found) return;
    const text = `${count(found.purged.length, "version")} and ${bytes(found.freed_bytes)} are deleted. That can't be undone.`;
    const action = async () => {
      const done = await ask(false);
      showResult(`${count(done.purged.length, "version")} purged, ${freed(done)}`);
      setFound(null);
    };
    await confirm({ title: "Collect garbage", verb: "Purge", text, repeat: "purge", action }).catch((error) => showProblem(error, "Garbage collection"));
  };
  const toggle = (state: Collected) => {
    setFound(null);
    setStates(states.includes(state) ? states.filter((each) => each !== state) : [...states, state]);
  };
  return (
    <section>
      <h2>Garbage collection</h2>
      <fieldset class="row">
        <legend>Purge versions that are</legend>
        {STATES.map((state) => (
          <Check key={state} label={state} checked={states.includes(state)} onChange={() => toggle(state)} />
        ))}
      </fieldset>
      <div class="filters">
        <Field label="Keep the last of each adapter">
          <input type="number" min={0} class="narrow" value={keepLast} onInput={(event) => (setFound(null), setKeepLast(Number(event.currentTarget.value)))} />
        </Field>
        <Field label="Keep what an alias pointed at in the last (days)">
          <input type="number" min={0} class="narrow" value={days} onInput={(event) => (setFound(null), setDays(Number(event.currentTarget.value)))} />
        </Field>
      </div>
      <p class="row">
        <Act label="Show what would be purged" action={preview} />
        {found && found.purged.length > 0 && <Act label="Purge …" danger action={collect} />}
      </p>
      {found && <Found garbage={found} />}
    </section>
  );
}

function Found({ garbage }: { garbage: Garbage }) {
  const kept = Object.entries(garbage.kept).map(([rule, n]) => `${n} by ${rule}`);
  return (
    <div role="status">
      <p>
        {garbage.purged.length ? `${count(garbage.purged.length, "version")} would be purged: ${bytes(garbage.freed_bytes)}.` : "Nothing would be purged."}
        {kept.length > 0 && ` Kept: ${kept.join(", ")}.`}
        {garbage.more && " There are more."}
      </p>
      <ul>
        {garbage.purged.map((each) => (
          <li key={each.reference}>
            <span class="ref">{each.reference}</span> <State of={each.state} /> {bytes(each.size_bytes)}
          </li>
        ))}
      </ul>
    </div>
  );
}
