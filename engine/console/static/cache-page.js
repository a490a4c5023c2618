// The cache as it is and as it moves.

import { get, serverNow } from "./api.js";
import { makePlots } from "./cache-plots.js";
import { makeSteering } from "./cache-steering.js";
import { makeThrash } from "./cache-thrash.js";
import { makeTiers } from "./cache-tiers.js";
import { decisionLine } from "./decisions.js";
import { fill, h, keyed, say } from "./dom.js";
import { announce, refused, works } from "./notices.js";
import { heading } from "./parts.js";
import { follow, pause } from "./sse.js";
import { DecisionWindow, MINUTE_MS, flows, lookups, thrashing } from "./window.js";

const BACKFILL = 1000;
const TAIL = 40;
const DRAW_MS = 1000;
const COUNT_MS = 200;
const LOOK_MS = 2000; // the end of a request is no decision: it has to be asked for
const SOON_MS = 400; // a picture that changes faster is not read
const TELL_MS = 15000;

export async function cachePage({ root, query, signal, onLinkState }) {
  const page = makePage(query.get("ref"), signal);
  fill(root, page.elements);
  await look(page);
  begin(page, onLinkState);
}

function makePage(selected, signal) {
  const page = { signal, selected, seen: new DecisionWindow(), cache: null, told: 0 };
  page.steering = makeSteering(signal, () => look(page));
  page.tiers = makeTiers((reference) => select(page, reference));
  page.thrash = makeThrash(page.steering);
  page.plots = makePlots();
  page.minute = h("p", { class: "minute" });
  page.tail = h("ol", { class: "decisions", "aria-label": "Decisions, the newest first" });
  page.tailNote = h("span", { class: "faint" });
  page.elements = [
    heading("Cache", page.minute),
    page.thrash.element,
    h("div", { class: "cache-columns" }, mainColumn(page), page.steering.element),
  ];
  if (selected) page.steering.choose(selected);
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
  page.steering.choose(reference, { focus: true });
  if (page.cache) page.tiers.show(page.cache, page.selected);
}

async function look(page) {
  try {
    page.cache = await get("api/v1/cache", {}, page.signal);
  } catch (error) {
    refused(error, "Cache");
    return;
  }
  if (page.signal.aborted) return;
  works("Cache");
  page.tiers.show(page.cache, page.selected);
  page.steering.show(page.cache);
}

function begin(page, onLinkState) {
  const { signal } = page;
  let soon = 0;
  const lookSoon = () => {
    soon ||= setTimeout(() => {
      soon = 0;
      look(page);
    }, SOON_MS);
  };
  signal.addEventListener("abort", () => clearTimeout(soon));
  const onMessage = ({ data }) => {
    happened(page, JSON.parse(data));
    lookSoon();
  };
  follow("api/v1/cache/stream", {
    signal,
    onMessage,
    onState: onLinkState,
    onOpen: () => backfill(page),
  });
  every(LOOK_MS, signal, () => document.hidden || look(page));
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

/** What happened before the stream began. */
async function backfill(page) {
  try {
    const { items } = await get("api/v1/cache/decisions", { limit: BACKFILL }, page.signal);
    for (const decision of items) page.seen.add(decision);
    draw(page);
  } catch (error) {
    refused(error, "Earlier decisions");
  }
}

function happened(page, decision) {
  if (!page.seen.add(decision)) return;
  if (decision.kind === "looked_up") page.tiers.pulse(decision.reference, decision.outcome);
  page.counting ||= setTimeout(() => {
    page.counting = 0;
    count(page);
  }, COUNT_MS);
}

function draw(page) {
  if (page.signal.aborted) return;
  const now = serverNow();
  page.seen.prune(now);
  page.plots.draw(page.seen.all, now);
  count(page);
}

/** What changes with every decision. */
function count(page) {
  if (page.signal.aborted) return;
  const lastMinute = page.seen.since(serverNow() - MINUTE_MS);
  page.tiers.flow(flows(lastMinute));
  page.thrash.show(thrashing(lastMinute), lastMinute, page.cache);
  showMinute(page, lastMinute);
  showTail(page);
}

/** Not while somebody reads it. */
function showTail({ tail, tailNote, seen }) {
  const isRead = tail.matches(":hover, :focus-within");
  say(tailNote, isRead ? "held while you read" : "");
  if (isRead) return;
  keyed(tail, seen.all.slice(-TAIL).reverse(), ({ id }) => id, decisionLine);
}

function showMinute(page, lastMinute) {
  const { gpu_hit: gpu, host_hit: host, miss, total } = lookups(lastMinute);
  const evictions = lastMinute.filter(({ kind }) => kind === "evicted").length;
  const text = `Last minute: ${total} lookups, ${gpu} GPU hits, ${host} host hits, ${miss} misses, ${evictions} evictions`;
  say(page.minute, text);
  if (performance.now() - page.told > TELL_MS && total) {
    page.told = performance.now();
    announce(text);
  }
}
