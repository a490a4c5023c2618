// Cells of both tiers: which places there are, what is in them, and who is evicted next. No DOM.

import type { Schema } from "../lib/api.ts";
import { count, idle } from "../lib/format.ts";

export type Cache = Schema["CacheRead"];
type Resident = Schema["ResidentRead"];

/** A resident; or a place that is free, or another tenant's and without a name. */
export type Cell = { id: string } & ({ resident: Resident; blank?: undefined } | { resident: null; blank: string });

/** Class and text. Each state has a symbol of its own. */
export type Mark = readonly [name: string, text: string];

const MOST_BLANK = 64;
const DOWN = "engine down";

/** A version may be on several replicas. */
export function idOf({ reference, replica }: Resident): string {
  return replica ? `${reference} ${replica}` : reference;
}

type Engines = { replicas?: Cache["replicas"]; engine_up?: Cache["engine_up"] };

/** Slots stay in their order, whichever adapter is in them. Those of an engine that is down are not free. */
export function bySlot({ slots, gpu, hidden, ...engines }: Pick<Cache, "slots" | "gpu" | "hidden"> & Engines): Cell[] {
  const { replicas = [], engine_up: isServed = true } = engines;
  const each = replicas.length ? replicas : [{ name: null, slots, engine_up: isServed }];
  const placed = each.flatMap(({ name, slots: number, engine_up: isUp }) =>
    Array.from({ length: number }, (_, n) => ({ isUp, found: gpu.find((each) => each.slot === n && (each.replica ?? null) === name) })),
  );
  const unplaced = gpu.filter((each) => !placed.some(({ found }) => found === each));
  const others = blanks("another's", hidden.gpu ?? 0);
  return placed.map(({ isUp, found }, n) => {
    if (!isUp) return { id: `down-${n}`, resident: null, blank: DOWN };
    const resident = found ?? unplaced.shift();
    return resident ? cellOf(resident) : (others.shift() ?? { id: `free-${n}`, resident: null, blank: "free" });
  });
}

/** What is to be said of engines that are down, with the names of replicas; null if all are up. */
export function down({ replicas = [], engine_up: isServed = true }: Engines): string | null {
  const names = replicas.filter((each) => !each.engine_up).map(({ name }) => name);
  if (names.length) return `The engine of ${names.join(", ")} is down: nothing is in memory there.`;
  return isServed ? null : "The engine is down or asleep: nothing is in memory, and requests are refused until it serves again.";
}

/** Slots by state, in words. */
export function slotsInUse({ slots, slots_by_state: states }: Pick<Cache, "slots" | "slots_by_state">): string {
  const named = ["leased", "pinned", "idle", "free"].map((state) => `${states[state] ?? 0} ${state}`);
  if (states.down) named.push(`${states.down} ${DOWN}`);
  return `${slots}: ${named.join(" · ")}`;
}

/** Residents, next victim first; then other tenants', then free places. */
export function inHost(cache: Cache): Cell[] {
  const hidden = cache.hidden.host ?? 0;
  const { replicas = [], engine_up: isServed = true } = cache;
  const each = replicas.length ? replicas : [{ host_capacity: cache.host_capacity, engine_up: isServed }];
  const lost = each.reduce((sum, { host_capacity: places, engine_up: isUp }) => sum + (isUp ? 0 : places), 0);
  const free = Math.max(0, cache.host_capacity - lost - cache.host.length - hidden);
  return [
    ...cache.host.map(cellOf),
    ...blanks("another's", Math.min(hidden, MOST_BLANK)),
    ...blanks("free", Math.min(free, MOST_BLANK)),
    ...blanks(DOWN, Math.min(lost, MOST_BLANK)),
  ];
}

function cellOf(resident: Resident): Cell {
  return { id: idOf(resident), resident };
}

function blanks(blank: string, number: number): Cell[] {
  return Array.from({ length: number }, (_, n) => ({ id: `${blank}-${n}`, resident: null, blank }));
}

/** By replica: the ids of those that may be evicted from their slots, next first. */
export function slotVictims(cache: Cache): Victims {
  if (cache.hidden.gpu) return new Map(); // unknown if there are hidden ones
  return positions(cache.gpu.filter((each) => each.pinned !== "gpu" && !each.leases));
}

/** The same of host memory: who is in a slot leaves after all others. */
export function hostVictims(cache: Cache): Victims {
  if (cache.hidden.host) return new Map();
  const inSlots = new Set(cache.gpu.map(idOf));
  const able = cache.host.filter((each) => !each.pinned && !each.leases && !each.waiting);
  return positions([...able.filter((each) => !inSlots.has(idOf(each))), ...able.filter((each) => inSlots.has(idOf(each)))]);
}

/** Place in the order of eviction of its replica, from 0, by id. */
export type Victims = ReadonlyMap<string, number>;

function positions(inOrder: readonly Resident[]): Victims {
  const next = new Map<string | null, number>();
  return new Map(
    inOrder.map((each) => {
      const replica = each.replica ?? null;
      const position = next.get(replica) ?? 0;
      next.set(replica, position + 1);
      return [idOf(each), position];
    }),
  );
}

export function marksOf(resident: Resident, position: number | undefined, inSlot: boolean): Mark[] {
  const { leases, waiting, pinned, leaving, idle_seconds: seconds } = resident;
  const marks: (Mark | false)[] = [
    leases > 0 && ["leased", `▶ ${leases} leased`],
    pinned !== null && ["pinned", `◆ pinned ${pinned}`],
    waiting > 0 && ["awaited", `… ${waiting} waiting`],
    inSlot && ["in-slot", "▲ in a slot"],
    leaving && ["leaving", "↘ evicted once idle"],
    position === 0 && ["next", "↘ next out"],
    position !== undefined && position > 0 && ["later", `${position + 1}. out`],
    leases === 0 && seconds >= 1 && ["idle", `idle ${idle(seconds)}`],
  ];
  return marks.filter((mark) => mark !== false);
}

/** What is on its way, each with a key. */
export function onTheirWay({ loading, waiting }: Cache): { key: string; text: string }[] {
  const found = loading.map((reference) => ({ key: reference, text: `⟳ ${reference} is loading` }));
  if (waiting) found.push({ key: "waiting", text: `… ${count(waiting, "request")} waiting for a slot` });
  return found;
}
