// Search for versions of all adapters.

import { get } from "../lib/api.ts";
import { button, field, fill, h } from "./dom.js";
import { bytes, count, moment } from "./format.js";
import { utc, zone } from "../lib/time.tsx";
import { attempt, showProblem } from "../lib/notices.ts";
import { cells, empty, heading, label, stateTag, table, tags } from "./components.js";

const PAGE = 50;
const TYPING_MS = 250;
const STATES = ["ready", "deprecated", "pending", "retired", "quarantined", "rejected", "purged"];
const FILTERS = ["text", "tag", "state", "rank_min", "rank_max"];
const COLUMNS = ["Version", "State", "Rank", "Size", "Tags", "Description", `Registered (${zone()})`];

export function versionsPage({ root, query, signal }) {
  const results = h("div", { "aria-live": "polite" });
  const form = searchForm(query);
  let latest = 0;
  const look = async () => {
    const mine = ++latest;
    const filters = filtersOf(form);
    remember(filters);
    await firstPage(results, filters, () => mine !== latest || signal.aborted);
  };
  onTyping(form, look, signal);
  const back = h("p", { class: "row" }, h("a", { href: "#/adapters" }, "All adapters"));
  fill(root, heading("Versions", back), form, results);
  return look();
}

function searchForm(query) {
  const value = (name) => query.get(name) ?? "";
  const input = (name, more) => h("input", { name, value: value(name), ...more });
  return h(
    "form",
    { class: "filters", role: "search", "aria-label": "Versions" },
    field("Words", input("text", { type: "search", id: "search", placeholder: "word prefixes" })),
    field("Tag", input("tag", {})),
    field("State", choice("state", ["", ...STATES], value("state"), "any")),
    field("Rank from", input("rank_min", { type: "number", min: 1, class: "narrow" })),
    field("to", input("rank_max", { type: "number", min: 1, class: "narrow" })),
  );
}

function choice(name, values, chosen, none = "") {
  const options = values.map((value) =>
    h("option", { value, selected: value === chosen }, value || none),
  );
  return h("select", { name }, options);
}

function onTyping(form, look, signal) {
  let timer = 0;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, TYPING_MS);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  signal.addEventListener("abort", () => clearTimeout(timer));
}

function filtersOf(form) {
  const given = Object.fromEntries(new FormData(form));
  const filters = FILTERS.filter((name) => given[name]);
  return Object.fromEntries(filters.map((name) => [name, given[name]]));
}

function remember(filters) {
  const query = new URLSearchParams(filters).toString();
  history.replaceState(null, "", `#/versions${query && "?"}${query}`);
}

async function firstPage(results, filters, isStale) {
  try {
    const page = await pageOf(filters, null);
    if (!isStale()) showResults(results, filters, page);
  } catch (error) {
    if (!isStale()) showProblem(error, "Search");
  }
}

function pageOf(filters, pageToken) {
  return get("api/v1/versions", { ...filters, limit: PAGE, page_token: pageToken });
}

function showResults(results, filters, page) {
  if (!page.items.length) {
    const isFiltered = Object.keys(filters).length > 0;
    fill(results, empty(isFiltered ? "No versions match." : "Nothing is registered yet."));
    return;
  }
  const rowOf = (item) => label(versionRow(item), COLUMNS);
  const body = table("versions", COLUMNS, page.items.map(rowOf));
  fill(results, body, more(body.querySelector("tbody"), filters, page.next_page_token, rowOf));
}

function more(rows, filters, token, row) {
  const shown = () => h("p", { class: "faint" }, count(rows.children.length, "version"));
  if (token === null) return shown();
  let next = token;
  const trigger = button("Show more", () =>
    attempt(trigger, "Search", async () => {
      const page = await pageOf(filters, next);
      rows.append(...page.items.map(row));
      next = page.next_page_token;
      if (next === null) trigger.replaceWith(shown());
    }),
  );
  return trigger;
}

function versionRow(version) {
  const address = `#/adapters/${encodeURIComponent(version.adapter)}?version=${version.number}`;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, h("a", { href: address, class: "ref" }, version.reference)),
    cells(
      stateTag(version.state),
      version.rank,
      bytes(version.size_bytes),
      tags(version.tags),
      version.description,
      h("time", { datetime: version.created_at, title: utc(version.created_at) }, moment(version.created_at)),
    ),
  );
}
