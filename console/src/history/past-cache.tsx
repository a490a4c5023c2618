// Slots, host memory, loads and waits at a past time, drawn as the cache page draws them.

import { useMemo } from "preact/hooks";
import type { Schema } from "../lib/api.ts";
import { Row, Table } from "../lib/parts.tsx";
import { Clock, Time } from "../lib/time.tsx";
import { bytes, clock, count, seconds } from "../lib/format.ts";

type Cache = Schema["PastCacheRead"];
type Resident = Schema["PastResidentRead"];
type Decision = Schema["DecisionRead"];
type Blank = { reference: string; blank: string };

const MOST_BLANKS = 64;
const WAITS = ["Waited for", "From", "Until", "How long", "Found"];
const FOUND: Record<string, string> = { gpu_hit: "in its slot", host_hit: "in host memory", miss: "on disk" };

interface Props {
  label: string;
  cache: Cache;
  decisions: readonly Decision[];
  at: number;
  chosen: string | null;
  choose: (adapter: string) => void;
}

export function PastCache({ label, cache, decisions, at, chosen, choose }: Props) {
  const ends = useMemo(() => nextEvictions(decisions, at), [decisions, at]);
  const cells = bySlot(cache);
  const inSlots = new Set(cache.gpu.map(({ reference }) => reference));
  const taken = cache.host.length + cache.hidden.host!;
  const used = cache.host.reduce((sum, each) => sum + (each.host_bytes ?? each.size_bytes), 0);
  const cell = (each: Resident | Blank, tier: "gpu" | "host") =>
    "blank" in each ? (
      <Free key={each.reference} text={each.blank} />
    ) : (
      <Cell
        key={each.reference}
        resident={each}
        end={ends.get(`${tier} ${each.reference}`)}
        inSlot={tier === "host" && inSlots.has(each.reference)}
        tier={tier}
        isChosen={each.adapter === chosen}
        choose={choose}
      />
    );
  return (
    <section class="tiers" aria-label={label}>
      <Remarks cache={cache} />
      <div class="tier">
        <header>
          <h2>GPU slots</h2>
          <span class="faint">
            {cache.gpu.length + cache.hidden.gpu!} of {cache.slots} taken
          </span>
        </header>
        <ul class="cells" aria-label="GPU slots">
          {cells.map((each) => cell(each, "gpu"))}
        </ul>
      </div>
      <div class="tier">
        <header>
          <h2>Host memory</h2>
          <span class="faint">
            {taken} of {cache.host_capacity} places · {bytes(used)}
            {cache.host_bytes_limit ? ` of ${bytes(cache.host_bytes_limit)}` : ""}
          </span>
        </header>
        <ul class="cells" aria-label="Host memory">
          {[...cache.host, ...blanks("another's", cache.hidden.host!), ...blanks("free", cache.host_capacity - taken)].map((each) =>
            cell(each, "host"),
          )}
        </ul>
      </div>
      <Waiting cache={cache} />
    </section>
  );
}

/** Slots stay in their order; one whose number the engine had not reported takes a free place. */
function bySlot({ slots, gpu, hidden, engine_up: isUp }: Cache): (Resident | Blank)[] {
  const placed = Array.from({ length: slots }, (_, n) => gpu.find(({ slot }) => slot === n));
  const unplaced = gpu.filter((each) => !placed.includes(each));
  const others = blanks("another's", hidden.gpu!);
  return placed.map((each, n) => each ?? unplaced.shift() ?? others.shift() ?? { reference: `free-${n}`, blank: isUp ? "free" : "engine down" });
}

function blanks(text: string, number: number): Blank[] {
  return Array.from({ length: Math.max(0, Math.min(number, MOST_BLANKS)) }, (_, n) => ({ reference: `${text}-${n}`, blank: text }));
}

/** The next eviction of each adapter from each tier, by `gpu upper:3`. */
function nextEvictions(decisions: readonly Decision[], at: number): Map<string, Decision> {
  const found = new Map<string, Decision>();
  for (const each of decisions) {
    const name = `${each.tier} ${each.reference}`;
    if (each.kind === "evicted" && Date.parse(each.at) > at && !found.has(name)) found.set(name, each);
  }
  return found;
}

function Free({ text }: { text: string }) {
  return (
    <li class="cell free">
      <span>{text}</span>
    </li>
  );
}

interface CellProps {
  resident: Resident;
  end: Decision | undefined;
  inSlot: boolean;
  tier: "gpu" | "host";
  isChosen: boolean;
  choose: (adapter: string) => void;
}

function Cell({ resident, end, inSlot, tier, isChosen, choose }: CellProps) {
  const { reference, adapter, slot, rank, leases, waiting, pinned, leaving, since } = resident;
  const marks = [leases ? "leased" : "", pinned ? "pinned" : "", end ? "next" : ""].join(" ");
  const where = tier === "gpu" && slot !== null ? `slot ${slot} · ` : "";
  return (
    <li class={`cell ${marks}`}>
      <button type="button" aria-pressed={isChosen} onClick={() => choose(adapter)}>
        <span class="ref">{reference}</span>
        <span class="size">
          {where}r{rank} · {bytes(resident.host_bytes ?? resident.size_bytes)}
        </span>
        <span class="marks">
          {leases > 0 && <span class="mark-leased">▶ {leases} leased</span>}
          {pinned && <span class="mark-pinned">◆ pinned {pinned}</span>}
          {waiting > 0 && <span>… {waiting} waiting</span>}
          {inSlot && <span class="mark-in-slot">▲ in a slot</span>}
          {leaving && <span>↘ evicted once idle</span>}
          <span class="mark-idle">since {clock(since)}</span>
          {end && (
            <span>
              ↘ {clock(end.at)} {end.for_reference ? `for ${end.for_reference}` : "evicted"}
            </span>
          )}
        </span>
      </button>
    </li>
  );
}

function Remarks({ cache }: { cache: Cache }) {
  return (
    <>
      {!cache.engine_up && <p class="thrash">The engine was down or asleep: nothing was in memory.</p>}
      {!cache.exact && <p class="thrash">More happened in this second than was recorded one by one: the state is that of its beginning. A second later it is exact again.</p>}
    </>
  );
}

function Waiting({ cache }: { cache: Cache }) {
  const looked = cache.sampled_at;
  return (
    <>
      <div class="loading">
        {cache.loading.map(({ reference, since }) => (
          <span key={reference} class="on-its-way">
            ⟳ {reference} was loading, since {clock(since)}
          </span>
        ))}
        {!cache.loading.length && <span class="faint">Nothing was loading.</span>}
        <span class="faint">
          {looked ? (
            <>
              {count(cache.waiting, "request")} waiting when last looked at, <Clock at={looked} />.
            </>
          ) : (
            "Leases and waiting requests were not looked at yet."
          )}
        </span>
      </div>
      {cache.waits.length > 0 ? (
        <Table label="Who waited" columns={WAITS}>
          {cache.waits.map((each, n) => (
            <Row
              key={n}
              columns={WAITS}
              cells={[
                <span class="ref">{each.reference}</span>,
                <Time at={each.since} short />,
                <Time at={each.until} short />,
                seconds(each.seconds),
                FOUND[each.outcome] ?? each.outcome,
              ]}
            />
          ))}
        </Table>
      ) : (
        <p class="faint">No request that got its slot later was waiting.</p>
      )}
    </>
  );
}
