// Search for adapters, or for versions of all adapters.

import { get } from "./api.js";
import { button, field, fill, h } from "./dom.js";
import { adapterOf, bytes, count, moment } from "./format.js";
import { attempt, showProblem } from "./notices.js";
import { currentResidency } from "./residency.js";
import { adapterLink, cells, empty, heading, label, stateTag, table, tags } from "./components.js";

const PAGE = 50;
const TYPING_MS = 250;
const STATES = ["ready", "deprecated", "pending", "retired", "quarantined", "rejected", "purged"];
const SEARCHES = {
  adapters: {
    path: "api/v1/adapters",
    filters: ["text", "tag", "owner"],
    columns: ["Adapter", "In memory", "Owner", "Tags", "Description", "Registered"],
    row: adapterRow,
  },
  versions: {
    path: "api/v1/versions",
    filters: ["text", "tag", "state", "rank_min", "rank_max"],
    columns: ["Version", "State", "Rank", "Size", "Tags", "Description", "Registered"],
    row: versionRow,
  },
};

export function adaptersPage({ root, query, signal }) {
  const results = h("div", { "aria-live": "polite" });
  const form = searchForm(query);
  let latest = 0;
  const look = async () => {
    const mine = ++latest;
    const search = searchOf(form);
    remember(search);
    showFilters(form, search.for);
    await firstPage(results, search, () => mine !== latest || signal.aborted);
  };
  onTyping(form, look);
  fill(root, heading("Adapters"), form, results);
  return look();
}

function searchForm(query) {
  const value = (name) => query.get(name) ?? "";
  const input = (name, more) => h("input", { name, value: value(name), ...more });
  return h(
    "form",
    { class: "filters", role: "search", "aria-label": "Registry" },
    field("Search for", choice("for", Object.keys(SEARCHES), value("for"))),
    field("Words", input("text", { type: "search", placeholder: "word prefixes" })),
    field("Tag", input("tag", {})),
    field("Owner", input("owner", {})),
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

function onTyping(form, look) {
  let timer = 0;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, TYPING_MS);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
}

/** The search in the form, with the filters of its kind. */
function searchOf(form) {
  const given = Object.fromEntries(new FormData(form));
  const kind = SEARCHES[given.for] ? given.for : "adapters";
  const filters = SEARCHES[kind].filters.filter((name) => given[name]);
  return { for: kind, filters: Object.fromEntries(filters.map((name) => [name, given[name]])) };
}

function remember(search) {
  const kind = search.for === "adapters" ? {} : { for: search.for };
  const query = new URLSearchParams({ ...kind, ...search.filters }).toString();
  history.replaceState(null, "", `#/adapters${query && "?"}${query}`);
}

function showFilters(form, kind) {
  for (const control of form.elements) {
    const used = control.name === "for" || SEARCHES[kind].filters.includes(control.name);
    control.closest(".field").hidden = !used;
  }
}

async function firstPage(results, search, isStale) {
  try {
    const [page, places] = await Promise.all([pageOf(search, null), currentResidency()]);
    search.places = places;
    if (!isStale()) showResults(results, search, page);
  } catch (error) {
    if (!isStale()) showProblem(error, "Search");
  }
}

function pageOf(search, pageToken) {
  const query = { ...search.filters, limit: PAGE, page_token: pageToken };
  return get(SEARCHES[search.for].path, query);
}

function showResults(results, search, page) {
  const { columns, row } = SEARCHES[search.for];
  if (!page.items.length) {
    fill(results, empty(nothing(search)));
    return;
  }
  const rowOf = (item) => label(row(item, search.places), columns);
  const body = table(search.for, columns, page.items.map(rowOf));
  fill(results, body, more(body.querySelector("tbody"), search, page.next_page_token, rowOf));
}

function nothing(search) {
  const filtered = Object.keys(search.filters).length > 0;
  return filtered ? `No ${search.for} match.` : "Nothing is registered yet.";
}

function more(rows, search, token, row) {
  const shown = () => count(rows.children.length, search.for.slice(0, -1));
  if (token === null) return h("p", { class: "faint" }, shown());
  let next = token;
  const trigger = button("Show more", () =>
    attempt(trigger, "Search", async () => {
      const page = await pageOf(search, next);
      rows.append(...page.items.map(row));
      next = page.next_page_token;
      if (next === null) trigger.replaceWith(h("p", { class: "faint" }, shown()));
    }),
  );
  return trigger;
}

function adapterRow(adapter, places) {
  const inMemory = [...places]
    .filter(([reference]) => adapterOf(reference) === adapter.name)
    .map(([reference, { text }]) => h("div", {}, `${reference}: ${text}`));
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, adapterLink(adapter.name)),
    cells(
      inMemory,
      adapter.owner,
      tags(adapter.tags),
      adapter.description,
      moment(adapter.created_at),
    ),
  );
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
      moment(version.created_at),
    ),
  );
}
