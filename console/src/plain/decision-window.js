// Decisions of the last minutes, and statistics of them. No DOM: numbers only.

export const WINDOW_MS = 5 * 60 * 1000;
export const BUCKET_MS = 5 * 1000;
export const MINUTE_MS = 60 * 1000;
export const THRASH_EVICTIONS = 3; // of one adapter from one tier within a minute
const MOST = 20000;
const NEWEST = 200;

/** Stores decisions in the order of their ids, each once, for `WINDOW_MS`. */
export class DecisionWindow {
  #known = new Set();
  #all = [];
  #newest = [];

  /** Whether it was new. */
  add(decision) {
    if (this.#known.has(decision.id)) return false;
    this.#known.add(decision.id);
    let place = this.#all.length;
    while (place > 0 && decision.id < this.#all[place - 1].id) place -= 1;
    const timed = { ...decision, time: Date.parse(decision.at) };
    this.#all.splice(place, 0, timed);
    this.#addNewest(timed);
    return true;
  }

  /** One that was pruned comes again when a stream is opened again. */
  #addNewest(timed) {
    if (this.#newest.some(({ id }) => id === timed.id)) return;
    this.#newest.push(timed);
    this.#newest.sort((one, other) => other.id - one.id);
    this.#newest.length = Math.min(this.#newest.length, NEWEST);
  }

  /** Removes decisions that are too old. */
  prune(now) {
    let old = this.#all.findIndex((each) => each.time >= now - WINDOW_MS);
    if (old < 0) old = this.#all.length;
    old = Math.max(old, this.#all.length - MOST);
    for (const each of this.#all.splice(0, old)) this.#known.delete(each.id);
  }

  /** The newest, newest first, however old: an incident is looked at long after it. */
  get newest() {
    return this.#newest;
  }

  get all() {
    return this.#all;
  }

  since(time) {
    return this.#all.filter((each) => each.time >= time);
  }
}

/** `{gpu_hit, host_hit, miss, total}`. */
export function lookups(decisions) {
  const counts = { gpu_hit: 0, host_hit: 0, miss: 0, total: 0 };
  for (const { kind, outcome } of decisions) {
    if (kind !== "looked_up" || !(outcome in counts)) continue;
    counts[outcome] += 1;
    counts.total += 1;
  }
  return counts;
}

/** The share of lookups that found their adapter in a slot, or in any memory; null if none. */
export function ratios({ gpu_hit: gpu, host_hit: host, total }) {
  if (total === 0) return { gpu: null, memory: null };
  return { gpu: gpu / total, memory: (gpu + host) / total };
}

/** Lookups by time, oldest first: `{from, …lookups}` for each `BUCKET_MS`, the last incomplete. */
export function buckets(decisions, now) {
  const number = WINDOW_MS / BUCKET_MS;
  const end = Math.floor(now / BUCKET_MS) * BUCKET_MS + BUCKET_MS;
  const begin = end - number * BUCKET_MS;
  const found = Array.from({ length: number }, () => []);
  for (const decision of decisions) {
    const n = Math.floor((decision.time - begin) / BUCKET_MS);
    if (n >= 0 && n < number) found[n].push(decision);
  }
  return found.map((each, n) => ({ from: begin + n * BUCKET_MS, ...lookups(each) }));
}

/** Each move into a tier: `{time, seconds, tier, reference}`. */
export function loads(decisions) {
  return decisions
    .filter(({ kind, seconds }) => kind === "moved_in" && seconds !== null)
    .map(({ time, seconds, tier, reference }) => ({ time, seconds, tier, reference }));
}

/** How many entered each tier and left it. */
export function flows(decisions) {
  const counts = { gpu: { in: 0, out: 0 }, host: { in: 0, out: 0 } };
  for (const { kind, tier } of decisions) {
    if (!counts[tier]) continue;
    if (kind === "moved_in") counts[tier].in += 1;
    if (kind === "evicted") counts[tier].out += 1;
  }
  return counts;
}

/**
 * Adapters that were evicted repeatedly to make room: `{adapter, gpu, host}` with the number of
 * evictions from each tier, the worst first. `decisions` of a minute.
 */
export function thrashing(decisions) {
  const found = new Map();
  for (const { kind, adapter, tier, reason } of decisions) {
    if (kind !== "evicted" || reason !== "capacity") continue;
    const each = found.get(adapter) ?? { adapter, gpu: 0, host: 0 };
    each[tier] += 1;
    found.set(adapter, each);
  }
  const often = ({ gpu, host }) => Math.max(gpu, host) >= THRASH_EVICTIONS;
  return [...found.values()].filter(often).sort((one, other) => weight(other) - weight(one));
}

/** A load from disk costs more than one from host memory. */
function weight({ gpu, host }) {
  return gpu + 2 * host;
}

/** How many adapters were requested. */
export function requestedAdapters(decisions) {
  return new Set(decisions.filter(({ kind }) => kind === "looked_up").map((d) => d.adapter)).size;
}

/** The value below which a share of them are; null if none. */
export function quantile(values, share) {
  if (!values.length) return null;
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
