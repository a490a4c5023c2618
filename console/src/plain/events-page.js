// The event log: who changed what and why, live and back to the beginning.

import { get } from "../lib/api.ts";
import { KINDS } from "../lib/kinds.ts";
import { button, field, fill, h } from "./dom.js";
import { moment } from "./format.js";
import { announce, attempt, showProblem } from "../lib/notices.ts";
import { adapterLink, empty, heading } from "./components.js";
import { follow } from "./sse.js";

const PAGE = 50;
const MOST_LIVE = 500; // a page that stays open for days grows no further
const TYPING_MS = 300;
const FIELDS = ["adapter", "kind", "actor", "since"];

export function eventsPage({ root, query, signal, onLinkState }) {
  const form = filterForm(query);
  const list = h("ol", { class: "events", "aria-label": "Events, newest first" });
  const end = h("div", {});
  fill(root, heading("Events"), form, list, end);
  let shown = new AbortController();
  const look = () => {
    shown.abort();
    shown = new AbortController();
    const both = AbortSignal.any([shown.signal, signal]);
    showEvents({ list, end, filters: filtersOf(form), signal: both, onLinkState });
  };
  let timer = 0;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, TYPING_MS);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  signal.addEventListener("abort", () => clearTimeout(timer));
  look();
}

function filterForm(query) {
  const value = (name) => query.get(name) ?? "";
  const options = ["", ...KINDS].map((kind) =>
    h("option", { value: kind, selected: kind === value("kind") }, kind || "any"),
  );
  const input = (name, more = {}) => h("input", { name, value: value(name), ...more });
  return h(
    "form",
    { class: "filters", role: "search", "aria-label": "Events" },
    field("Adapter", input("adapter", { spellcheck: "false", maxlength: 64 })),
    field("Kind", h("select", { name: "kind" }, options)),
    field("By", input("actor", { spellcheck: "false" })),
    field("Since", input("since", { type: "datetime-local" })),
  );
}

/** The filters in the form, stored in the URL. */
function filtersOf(form) {
  const given = new FormData(form);
  const filters = Object.fromEntries(
    FIELDS.map((name) => [name, given.get(name).trim()]).filter(([, value]) => value),
  );
  const query = new URLSearchParams(filters).toString();
  history.replaceState(null, "", `#/events${query && "?"}${query}`);
  if (filters.since) filters.since = new Date(filters.since).toISOString();
  return filters;
}

/** The stream first, so that no event is lost between it and the pages. */
function showEvents({ list, end, filters, signal, onLinkState }) {
  fill(list);
  fill(end, empty("Loading …"));
  const known = new Set();
  const isNew = (event) => !known.has(event.id) && known.add(event.id);
  let live = 0;
  const onMessage = ({ data }) => {
    const event = JSON.parse(data);
    if (!isNew(event)) return;
    list.prepend(eventItem(event, "fresh"));
    live += 1;
    if (live > MOST_LIVE) forgetOldest(list, end, known);
    announce(`${event.kind}: ${sentenceOf(event)}`);
  };
  let isRequested = false;
  const pages = () => {
    if (isRequested || signal.aborted) return;
    isRequested = true;
    older({ list, end, filters, signal, isNew, token: null }).catch((error) => {
      fill(end);
      showProblem(error, "Events");
    });
  };
  const onState = (state, problem) => {
    onLinkState(state, problem);
    if (state !== "paused") pages(); // also if there is no stream
  };
  const { adapter, kind, actor } = filters;
  follow("api/v1/events/stream", { query: { adapter, kind, actor }, signal, onMessage, onState });
}

/** From then on, the log further back is that of a page opened anew. */
function forgetOldest(list, end, known) {
  const oldest = list.lastElementChild;
  known.delete(Number(oldest.dataset.event));
  oldest.remove();
  fill(end, empty("Older events: open the page again, or choose a time."));
}

async function older({ list, end, filters, signal, isNew, token }) {
  const query = { ...filters, newest_first: true, limit: PAGE, page_token: token };
  const page = await get("api/v1/events", query, signal);
  list.append(...page.items.filter(isNew).map((event) => eventItem(event)));
  const next = page.next_page_token;
  if (next === null) {
    fill(end, empty(list.children.length ? "No more events." : "No matching events."));
    return;
  }
  const again = { list, end, filters, signal, isNew, token: next };
  const trigger = button("Show older", () => attempt(trigger, "Events", () => older(again)));
  fill(end, trigger);
}

function eventItem(event, classes = "") {
  const data = Object.keys(event.data).length ? JSON.stringify(event.data, null, 2) : null;
  return h(
    "li",
    { class: `event ${classes}`, "data-event": event.id },
    h("time", { datetime: event.at, title: event.at }, moment(event.at)),
    h("span", { class: "word" }, event.kind),
    h("span", { class: "sentence" }, event.adapter ? adapterLink(event.adapter) : null, " ", what(event)),
    h("span", { class: "who" }, "by ", h("b", {}, event.actor), from(event), event.imported ? ", imported" : ""),
    event.reason ? h("q", { class: "reason" }, event.reason) : null,
    data ? h("details", {}, h("summary", {}, "data"), h("pre", {}, data)) : null,
  );
}

function from({ address }) {
  return address ? ` from ${address}` : "";
}

function sentenceOf(event) {
  return `${event.adapter ?? ""} ${what(event)}, by ${event.actor}`.trim();
}

/** Without the adapter's name, which precedes it. */
function what({ kind, alias, from_version: from, to_version: to, data }) {
  if (kind.startsWith("name.")) return [data.name, alias && `@${alias}`, to && `version ${to}`].filter(Boolean).join(" → ");
  if (kind === "alias.moved") return `@${alias}: ${from ?? "nothing"} → ${to}`;
  if (alias) return `@${alias}${to ? ` → ${to}` : ""}`;
  if (to) return `version ${to}`;
  return from ? `version ${from}` : "";
}
