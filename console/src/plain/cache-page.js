// The cache page: both tiers, live.

import { get, serverNow } from "../lib/api.ts";
import { makePlots } from "./cache-plots.js";
import { makeControls } from "./cache-controls.js";
import { makeThrash } from "./cache-thrash.js";
import { makeTiers } from "./cache-tiers.js";
import { decisionLine } from "./decisions.js";
import { fill, h, keyed, setText } from "./dom.js";
import { count } from "./format.js";
import { announce, showProblem, clearProblem } from "../lib/notices.ts";
import { heading } from "./components.js";
import { follow, pause } from "./sse.js";
import { DecisionWindow, MINUTE_MS, flows, lookups, thrashing } from "./decision-window.js";

const BACKFILL = 1000;
const DRAW_MS = 1000;
const COUNT_MS = 200;
const REFRESH_MS = 2000; // the end of a request is not a decision: it has to be polled
const SOON_MS = 400; // changes that are faster can't be read
const ANNOUNCE_MS = 15000;

export async function cachePage({ root, query, signal, onLinkState }) {
  const page = makePage(query.get("ref"), signal);
  fill(root, page.elements);
  await refresh(page);
  start(page, onLinkState);
}

function makePage(selected, signal) {
  const page = { signal, selected, decisions: new DecisionWindow(), cache: null, announcedAt: 0 };
  page.controls = makeControls(signal, () => refresh(page));
  page.tiers = makeTiers((reference) => select(page, reference));
  page.thrash = makeThrash(page.controls, signal);
  page.plots = makePlots();
  page.minute = h("p", { class: "minute" });
  page.tail = h("ol", { class: "decisions", "aria-label": "Decisions, newest first" });
  page.tailNote = h("span", { class: "faint" });
  page.elements = [
    heading("Cache", page.minute),
    page.thrash.element,
    h("div", { class: "cache-columns" }, mainColumn(page), page.controls.element),
  ];
  if (selected) page.controls.choose(selected);
  return page;
}

function mainColumn(page) {
  return h(
    "div",
    { class: "cache-main" },
    page.tiers.element,
    h("section", { class: "plots", "aria-label": "The last five minutes" }, page.plots.elements),
    h(
      "section",
      { class: "tail", "aria-label": "Decisions" },
      h("header", { class: "row" }, h("h2", {}, "Decisions"), page.tailNote),
      page.tail,
    ),
  );
}

function select(page, reference) {
  page.selected = reference;
  history.replaceState(null, "", `#/cache?ref=${encodeURIComponent(reference)}`);
  page.controls.choose(reference, { focus: true });
  if (page.cache) page.tiers.show(page.cache, page.selected);
}

async function refresh(page) {
  try {
    page.cache = await get("api/v1/cache", {}, page.signal);
  } catch (error) {
    showProblem(error, "Cache");
    return;
  }
  if (page.signal.aborted) return;
  clearProblem("Cache");
  page.tiers.show(page.cache, page.selected);
  page.controls.show(page.cache);
}

function start(page, onLinkState) {
  const { signal } = page;
  let soon = 0;
  const refreshSoon = () => {
    soon ||= setTimeout(() => {
      soon = 0;
      refresh(page);
    }, SOON_MS);
  };
  signal.addEventListener("abort", () => clearTimeout(soon));
  const onMessage = ({ data }) => {
    onDecision(page, JSON.parse(data));
    refreshSoon();
  };
  follow("api/v1/cache/stream", {
    signal,
    onMessage,
    onState: onLinkState,
    onOpen: () => backfill(page),
  });
  every(REFRESH_MS, signal, () => document.hidden || refresh(page));
  every(DRAW_MS, signal, () => document.hidden || draw(page));
  draw(page);
}

async function every(milliseconds, signal, action) {
  for (;;) {
    await pause(milliseconds, signal);
    if (signal.aborted) return;
    await action();
  }
}

/** Decisions from before the stream began. */
async function backfill(page) {
  try {
    const { items } = await get("api/v1/cache/decisions", { limit: BACKFILL }, page.signal);
    for (const decision of items) page.decisions.add(decision);
    draw(page);
  } catch (error) {
    showProblem(error, "Earlier decisions");
  }
}

function onDecision(page, decision) {
  if (!page.decisions.add(decision)) return;
  if (decision.kind === "looked_up") page.tiers.pulse(decision.reference, decision.outcome);
  page.counting ||= setTimeout(() => {
    page.counting = 0;
    showCounts(page);
  }, COUNT_MS);
}

function draw(page) {
  if (page.signal.aborted) return;
  const now = serverNow();
  page.decisions.prune(now);
  page.plots.draw(page.decisions.all, now);
  showCounts(page);
}

/** What changes with every decision. */
function showCounts(page) {
  if (page.signal.aborted) return;
  const lastMinute = page.decisions.since(serverNow() - MINUTE_MS);
  page.tiers.flow(flows(lastMinute));
  page.thrash.show(thrashing(lastMinute), lastMinute, page.cache);
  showMinute(page, lastMinute);
  showTail(page);
}

/** Paused while the pointer or the focus is in the list. */
function showTail({ tail, tailNote, decisions }) {
  const isRead = tail.matches(":hover, :focus-within");
  const note = decisions.newest.length ? "" : "none since the server has started";
  setText(tailNote, isRead ? "paused while you read" : note);
  if (isRead) return;
  keyed(tail, decisions.newest, ({ id }) => id, decisionLine);
}

function showMinute(page, lastMinute) {
  const { gpu_hit: gpu, host_hit: host, miss, total } = lookups(lastMinute);
  const evictions = lastMinute.filter(({ kind }) => kind === "evicted").length;
  const counted = [
    count(total, "lookup"),
    count(gpu, "GPU hit"),
    count(host, "host hit"),
    count(miss, "miss", "misses"),
    count(evictions, "eviction"),
  ];
  const text = `Last minute: ${counted.join(", ")}`;
  setText(page.minute, text);
  if (performance.now() - page.announcedAt > ANNOUNCE_MS && total) {
    page.announcedAt = performance.now();
    announce(text);
  }
}
