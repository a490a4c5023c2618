// Operators' actions on the cache; each shows its result.

import { request, type Schema } from "./api.ts";
import { showResult } from "./notices.tsx";

export type Tier = Schema["Tier"];

const PLACES: Record<Tier, string> = { gpu: "a GPU slot", host: "host memory" };

export async function pin(reference: string, tier: Tier, ttlSeconds: number | null = null): Promise<void> {
  const body = { reference, tier, ttl_seconds: ttlSeconds } as Schema["PinBody"];
  const pinned = await request("post", "/api/v1/cache/pins", { body });
  showResult(`${pinned.reference} is pinned in ${PLACES[pinned.tier]}`);
}

export async function unpin(reference: string): Promise<void> {
  const unpinned = await request("delete", "/api/v1/cache/pins/{reference}", { path: { reference } });
  showResult(`${unpinned.reference} is unpinned`);
}

export async function prefetch(reference: string): Promise<void> {
  const body = { reference } as Schema["SpreadBody"];
  const loading = await request("post", "/api/v1/cache/prefetch", { body });
  showResult(`${loading.reference} is being loaded into host memory`);
}

export async function evict(reference: string, wait: boolean): Promise<void> {
  const body = { reference, wait, force: false } as Schema["EvictBody"];
  const result = await request("post", "/api/v1/cache/evict", { body });
  showResult(`${result.reference} ${result.evicted ? "is evicted" : "was on disk only"}`);
}
