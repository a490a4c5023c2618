// Operators' actions on the cache; each shows its result.

import { part, send } from "../lib/api.ts";
import { showResult } from "../lib/notices.ts";

const PLACES = { gpu: "a GPU slot", host: "host memory" };

/** @param {string} reference @param {string} tier @param {number | null} ttlSeconds */
export async function pin(reference, tier, ttlSeconds = null) {
  const body = { reference, tier, ttl_seconds: ttlSeconds };
  const pinned = await send("POST", "api/v1/cache/pins", body);
  showResult(`${pinned.reference} is pinned in ${PLACES[pinned.tier]}`);
}

export async function unpin(reference) {
  const unpinned = await send("DELETE", `api/v1/cache/pins/${part(reference)}`);
  showResult(`${unpinned.reference} is unpinned`);
}

export async function prefetch(reference) {
  const loading = await send("POST", "api/v1/cache/prefetch", { reference });
  showResult(`${loading.reference} is being loaded into host memory`);
}

export async function evict(reference, { wait = false, force = false } = {}) {
  const result = await send("POST", "api/v1/cache/evict", { reference, wait, force });
  const outcome = result.evicted ? "is evicted" : "was on disk only";
  showResult(`${result.reference} ${outcome}`);
}
