// What an operator can do to the cache; each says what came of it.

import { part, send } from "./api.js";
import { done } from "./notices.js";

const PLACES = { gpu: "a GPU slot", host: "host memory" };

export async function pin(reference, tier, ttlSeconds = null) {
  const body = { reference, tier, ttl_seconds: ttlSeconds };
  const kept = await send("POST", "api/v1/cache/pins", body);
  done(`${kept.reference} is pinned in ${PLACES[kept.tier]}`);
}

export async function unpin(reference) {
  const freed = await send("DELETE", `api/v1/cache/pins/${part(reference)}`);
  done(`${freed.reference} is not pinned any more`);
}

export async function prefetch(reference) {
  const asked = await send("POST", "api/v1/cache/prefetch", { reference });
  done(`${asked.reference} is on its way into host memory`);
}

export async function evict(reference, { wait = false, force = false } = {}) {
  const gone = await send("POST", "api/v1/cache/evict", { reference, wait, force });
  done(gone.evicted ? `${gone.reference} is out of memory` : `${gone.reference} was on disk only`);
}
