// Residents: by adapter, where its versions are in memory, and how its last lookups went.

import { request, serverNow, type Schema } from "../lib/api.ts";

const DECISIONS = 1000;
const SHOWN = 24;

export interface Resident {
  places: string[];
  pinned: boolean;
  leases: number;
  idleSeconds: number | null;
  /** Of its last lookups: 2 found it in a slot, 1 in host memory, 0 on disk. */
  lookups: number[];
}

export type Residents = Map<string, Resident>;

const TIERS: Record<Schema["CacheOutcome"], number> = { gpu_hit: 2, host_hit: 1, miss: 0 };

export async function readResidents(signal: AbortSignal): Promise<Residents> {
  const [cache, decisions] = await Promise.all([
    request("get", "/api/v1/cache", { signal }),
    request("get", "/api/v1/cache/decisions", { query: { limit: DECISIONS }, signal }),
  ]);
  const found: Residents = new Map();
  const inSlots = new Set(cache.gpu.map((each) => each.reference));
  for (const each of cache.host) {
    const place = inSlots.has(each.reference) ? "slot" : "host";
    const resident = of(found, each.reference);
    resident.places.push(`${versionOf(each.reference)}: ${place}`);
    resident.pinned ||= each.pinned !== null;
    resident.leases += each.leases;
    resident.idleSeconds = Math.min(resident.idleSeconds ?? Infinity, each.idle_seconds ?? Infinity);
  }
  for (const { kind, outcome, adapter, at } of decisions.items) {
    if (kind !== "looked_up" || !outcome || !adapter) continue;
    const resident = of(found, adapter);
    resident.lookups.push(TIERS[outcome]);
    if (!resident.places.length) resident.idleSeconds = Math.max(0, (serverNow() - Date.parse(at)) / 1000);
  }
  return found;
}

function of(found: Residents, reference: string): Resident {
  const name = reference.split(/[:@]/, 1)[0]!;
  const empty = { places: [], pinned: false, leases: 0, idleSeconds: null, lookups: [] };
  if (!found.has(name)) found.set(name, empty);
  return found.get(name)!;
}

function versionOf(reference: string): string {
  return reference.split(":")[1] ?? "";
}

/** `80 %` of its lookups found it in memory; the marks are the last ones, oldest first. */
export function hits(lookups: readonly number[]): { text: string; last: readonly number[] } {
  const found = lookups.filter((each) => each > 0).length;
  const text = lookups.length ? `${Math.round((100 * found) / lookups.length)} %` : "";
  return { text, last: lookups.slice(-SHOWN) };
}
