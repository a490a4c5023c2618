// Places: which versions are in memory, and where.

import { request, type Schema } from "../lib/api.ts";
import { may } from "../lib/caller.ts";
import { showProblem } from "../lib/notices.tsx";

type Tier = Schema["Tier"];

/** By reference, of versions in memory or loading. */
export type Places = ReadonlyMap<string, { text: string; pinned: Tier | null }>;

/** If the cache can't be read, the problem is shown, and the rest of the page too. */
export async function readPlaces(signal: AbortSignal): Promise<Places> {
  if (!may("operate")) return new Map();
  try {
    return placesIn(await request("get", "/api/v1/cache", { signal }));
  } catch (error) {
    showProblem(error, "Cache");
    return new Map();
  }
}

function placesIn({ gpu, host, loading }: Schema["CacheRead"]): Places {
  const places = new Map(host.map((each) => [each.reference, place("host memory", each.pinned)]));
  for (const { reference, pinned } of gpu) places.set(reference, place("a GPU slot", pinned));
  for (const reference of loading) {
    if (!places.has(reference)) places.set(reference, { text: "loading", pinned: null });
  }
  return places;
}

function place(where: string, pinned: Tier | null) {
  return { text: pinned ? `${where}, pinned` : where, pinned };
}
