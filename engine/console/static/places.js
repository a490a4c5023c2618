// Where versions are in memory.

import { get } from "./api.js";
import { refused } from "./notices.js";

/** By reference, of those in memory or on the way: `{text, pinned}`. Where the cache can't be asked,
 * that is said and the rest of the page is shown. */
export async function currentPlaces(signal) {
  try {
    return placesIn(await get("api/v1/cache", {}, signal));
  } catch (error) {
    refused(error, "Cache");
    return new Map();
  }
}

function placesIn(cache) {
  const places = new Map(cache.host.map((each) => [each.reference, place("host memory", each)]));
  for (const each of cache.gpu) places.set(each.reference, place("a GPU slot", each));
  for (const reference of cache.loading) {
    if (!places.has(reference)) places.set(reference, { text: "on its way", pinned: null });
  }
  return places;
}

function place(where, { pinned }) {
  return { text: pinned ? `${where}, pinned` : where, pinned };
}
