// Advice: how many places of a tier the last lookups call for. No DOM: numbers only.

import type { Schema } from "../lib/api.ts";

export type TierPolicy = Schema["TierPolicyRead"];

export const FEWEST_LOOKUPS = 200; // fewer say little of what comes
const POINT = 0.01;

/** The fewest places that hit within one point of what any number hits; null: not enough is known. */
export function placesFor({ curve, lookups }: TierPolicy): number | null {
  if (lookups < FEWEST_LOOKUPS) return null;
  const most = curve.at(-1)?.lru ?? 0;
  return curve.find(({ lru }) => lru >= most - POINT)?.places ?? null;
}

/** The line of `adaptry serve`; null if not enough is known. A slot's adapter is in host memory too. */
export function serveLine(model: string, tiers: readonly TierPolicy[]): string | null {
  const [slots, host] = ["gpu", "host"].map((tier) => {
    const found = tiers.find((each) => each.tier === tier);
    return found ? placesFor(found) : null;
  });
  if (slots == null || host == null) return null;
  return `adaptry serve ${model} --max-loras ${slots} --max-cpu-loras ${Math.max(slots, host)}`;
}
