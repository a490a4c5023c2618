// Decisions of the cache as lines of text.

import type { Schema } from "../lib/api.ts";
import { link } from "../lib/address.ts";
import { Clock } from "../lib/time.tsx";

export type Decision = Schema["DecisionRead"];

const WORDS: Record<Decision["kind"], string> = {
  looked_up: "lookup",
  load_started: "load",
  moved_in: "moved in",
  evicted: "evicted",
  load_failed: "failed",
  refused: "refused",
  drained: "drained",
  pinned: "pinned",
  unpinned: "unpinned",
  fell_back: "fell back",
  drifted: "drift",
  engine_lost: "lost",
  engine_ready: "ready",
};
const OUTCOMES: Record<Schema["CacheOutcome"], string> = { gpu_hit: "GPU hit", host_hit: "host hit", miss: "miss" };

/** One or two words for what happened. */
export function wordOf({ kind, outcome }: Decision): string {
  return (kind === "looked_up" && outcome ? OUTCOMES[outcome] : WORDS[kind]) ?? kind;
}

export function DecisionLine({ of: decision }: { of: Decision }) {
  const name = decision.reference ?? decision.adapter;
  return (
    <li class="decision" data-kind={decision.outcome ?? decision.kind}>
      <Clock at={decision.at} />
      <span class="word">{wordOf(decision)}</span>
      <span class="sentence">
        {name && (
          <a class="ref" href={link("/cache", { ref: name })}>
            {name}
          </a>
        )}{" "}
        {decision.sentence}
      </span>
    </li>
  );
}
