// Decisions of the last minutes, and statistics of them. No DOM: numbers only.

import type { Decision } from "./decisions.tsx";

export const WINDOW_MS = 5 * 60 * 1000;
export const BUCKET_MS = 5 * 1000;
export const MINUTE_MS = 60 * 1000;
export const THRASH_EVICTIONS = 3; // of one adapter from one tier within a minute
const MOST = 20000;
const NEWEST = 200;

/** `time`: in milliseconds. */
export type Timed = Decision & { time: number };

export interface Lookups {
  gpu_hit: number;
  host_hit: number;
  miss: number;
  total: number;
}

/** Stores decisions in the order of their ids, each once, for `WINDOW_MS`. */
export class DecisionWindow {
  #known = new Set<number>();
  #all: Timed[] = [];
  #newest: Timed[] = [];

  /** Whether it was new. */
  add(decision: Decision): boolean {
    if (this.#known.has(decision.id)) return false;
    this.#known.add(decision.id);
    let place = this.#all.length;
    while (place > 0 && decision.id < this.#all[place - 1]!.id) place -= 1;
    const timed = { ...decision, time: Date.parse(decision.at) };
    this.#all.splice(place, 0, timed);
    this.#addNewest(timed);
    return true;
  }

  /** One that was pruned comes again when a stream is opened again. */
  #addNewest(timed: Timed): void {
    if (this.#newest.some(({ id }) => id === timed.id)) return;
    this.#newest = [...this.#newest, timed].sort((one, other) => other.id - one.id).slice(0, NEWEST);
  }

  /** Removes decisions that are too old. */
  prune(now: number): void {
    let old = this.#all.findIndex((each) => each.time >= now - WINDOW_MS);
    if (old < 0) old = this.#all.length;
    old = Math.max(old, this.#all.length - MOST);
    for (const each of this.#all.splice(0, old)) this.#known.delete(each.id);
  }

  /** The newest, newest first, however old: an incident is looked at long after it. */
  get newest(): readonly Timed[] {
    return this.#newest;
  }

  get all(): readonly Timed[] {
    return this.#all;
  }

  since(time: number): readonly Timed[] {
    return this.#all.filter((each) => each.time >= time);
  }
}

export function lookups(decisions: readonly Decision[]): Lookups {
  const counts = { gpu_hit: 0, host_hit: 0, miss: 0, total: 0 };
  for (const { kind, outcome } of decisions) {
    if (kind !== "looked_up" || !outcome) continue;
    counts[outcome] += 1;
    counts.total += 1;
  }
  return counts;
}

/** The share of lookups that found their adapter in a slot, or in any memory; null if none. */
export function ratios({ gpu_hit: gpu, host_hit: host, total }: Lookups) {
  if (total === 0) return { gpu: null, memory: null };
  return { gpu: gpu / total, memory: (gpu + host) / total };
}

/** Lookups by time, oldest first, for each `BUCKET_MS`, the last incomplete. */
export function buckets(decisions: readonly Timed[], now: number): (Lookups & { from: number })[] {
  const number = WINDOW_MS / BUCKET_MS;
  const end = Math.floor(now / BUCKET_MS) * BUCKET_MS + BUCKET_MS;
  const begin = end - number * BUCKET_MS;
  const found = Array.from({ length: number }, (): Timed[] => []);
  for (const decision of decisions) found[Math.floor((decision.time - begin) / BUCKET_MS)]?.push(decision);
  return found.map((each, n) => ({ from: begin + n * BUCKET_MS, ...lookups(each) }));
}

/** Each move into a tier. */
export function loads(decisions: readonly Timed[]) {
  return decisions.flatMap(({ kind, time, seconds, tier, reference }) =>
    kind === "moved_in" && typeof seconds === "number" && tier ? [{ time, seconds, tier, reference }] : [],
  );
}

/** How many entered each tier and left it. */
export function flows(decisions: readonly Decision[]) {
  const counts = { gpu: { in: 0, out: 0 }, host: { in: 0, out: 0 } };
  for (const { kind, tier } of decisions) {
    if (!tier) continue;
    if (kind === "moved_in") counts[tier].in += 1;
    if (kind === "evicted") counts[tier].out += 1;
  }
  return counts;
}

/** An adapter, and how often it was evicted from each tier. */
export interface Thrashing {
  adapter: string;
  gpu: number;
  host: number;
}

/** Adapters that were evicted repeatedly to make room, the worst first. `decisions` of a minute. */
export function thrashing(decisions: readonly Decision[]): Thrashing[] {
  const found = new Map<string, Thrashing>();
  for (const { kind, adapter, tier, reason } of decisions) {
    if (kind !== "evicted" || reason !== "capacity" || !tier || !adapter) continue;
    const each = found.get(adapter) ?? { adapter, gpu: 0, host: 0 };
    each[tier] += 1;
    found.set(adapter, each);
  }
  const often = ({ gpu, host }: Thrashing) => Math.max(gpu, host) >= THRASH_EVICTIONS;
  return [...found.values()].filter(often).sort((one, other) => weight(other) - weight(one));
}

/** A load from disk costs more than one from host memory. */
function weight({ gpu, host }: Thrashing): number {
  return gpu + 2 * host;
}

/** How many adapters were requested. */
export function requestedAdapters(decisions: readonly Decision[]): number {
  return new Set(decisions.filter(({ kind }) => kind === "looked_up").map((each) => each.adapter)).size;
}

/** The value below which a share of them are; null if none. */
export function quantile(values: readonly number[], share: number): number | null {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? null;
}
