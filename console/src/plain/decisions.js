// Decisions of the cache as lines of text.

import { h, link } from "./dom.js";
import { clock } from "./format.js";

const WORDS = {
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
const OUTCOMES = { gpu_hit: "GPU hit", host_hit: "host hit", miss: "miss" };

/** One or two words for what happened. */
export function wordOf(decision) {
  if (decision.kind === "looked_up") return OUTCOMES[decision.outcome] ?? "lookup";
  return WORDS[decision.kind] ?? decision.kind;
}

export function decisionLine(decision) {
  return h(
    "li",
    { class: "decision", "data-kind": decision.outcome ?? decision.kind },
    h("time", { datetime: decision.at, title: decision.at }, clock(decision.at)),
    h("span", { class: "word" }, wordOf(decision)),
    h("span", { class: "sentence" }, subject(decision), " ", decision.sentence),
  );
}

function subject({ reference, adapter }) {
  const name = reference ?? adapter;
  if (!name) return null;
  return link(name, `#/cache?ref=${encodeURIComponent(name)}`, { class: "ref" });
}
