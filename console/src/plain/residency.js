// Residency: which versions are in memory, and where.

import { may } from "../lib/caller.ts";
import { get } from "../lib/api.ts";
import { showProblem } from "../lib/notices.ts";

/** `{text, pinned}` by reference, for versions in memory or loading. If the cache can't be read, the
 * problem is shown, and the rest of the page too. */
export async function currentResidency(signal) {
  if (!may("operate")) return new Map();
  try {
    return placesIn(await get("api/v1/cache", {}, signal));
  } catch (error) {
    showProblem(error, "Cache");
    return new Map();
  }
}

function placesIn(cache) {
  const places = new Map(cache.host.map((each) => [each.reference, place("host memory", each)]));
  for (const each of cache.gpu) places.set(each.reference, place("a GPU slot", each));
  for (const reference of cache.loading) {
    if (!places.has(reference)) places.set(reference, { text: "loading", pinned: null });
  }
  return places;
}

function place(where, { pinned }) {
  return { text: pinned ? `${where}, pinned` : where, pinned };
}
