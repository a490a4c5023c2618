// The page of one adapter: description, aliases, versions, and why they are where they are.

import { get, part, send } from "../lib/api.ts";
import { aliasesSection } from "./aliases-section.js";
import { button, fill, h, link, refill } from "./dom.js";
import { moment } from "./format.js";
import { attempt, showProblem } from "../lib/notices.ts";
import { currentResidency } from "./residency.js";
import { definitions, heading, metadataPairs, tags } from "./components.js";
import { follow } from "./sse.js";
import { versionsSection } from "./versions-section.js";

const REFRESH_MS = 300;
const PAGE = 200;

export async function adapterPage({ root, name, query, signal, onLinkState }) {
  document.title = `${name} · Adaptry`;
  const parts = { about: h("section"), aliases: h("section"), versions: h("section") };
  fill(root, heading(name, headLinks(name)), parts.about, parts.aliases, parts.versions);
  const page = { name, signal, openVersions: new Set(), openAliases: new Set(), parts };
  if (query.get("version")) page.openVersions.add(Number(query.get("version")));
  page.refresh = () => refresh(page);
  await page.refresh();
  root.querySelector("tr.open")?.scrollIntoView({ block: "nearest" });
  followChanges(page, onLinkState);
}

function headLinks(name) {
  const at = encodeURIComponent(name);
  return h(
    "p",
    { class: "row" },
    link("Events", `#/events?adapter=${at}`),
    link("Try it", `#/try?a=${at}`),
    link("In the cache", `#/cache?ref=${at}`),
  );
}

async function refresh(page) {
  const base = `api/v1/adapters/${part(page.name)}`;
  try {
    const [adapter, versions, aliases, places] = await Promise.all([
      get(base, {}, page.signal),
      allVersions(`${base}/versions`, page.signal),
      get(`${base}/aliases`, {}, page.signal),
      currentResidency(page.signal),
    ]);
    page.aliases = aliases.items;
    refill(page.parts.about, about(page, adapter));
    refill(page.parts.aliases, await aliasesSection(page, aliases.items));
    refill(page.parts.versions, versionsSection(page, versions, places));
  } catch (error) {
    showProblem(error, page.name);
  }
}

async function allVersions(path, signal) {
  const found = [];
  let token = null;
  do {
    const page = await get(path, { limit: PAGE, page_token: token }, signal);
    found.push(...page.items);
    token = page.next_page_token;
  } while (token !== null);
  return found.reverse();
}

function about(page, adapter) {
  return [
    adapter.description ? h("p", { class: "lead" }, adapter.description) : null,
    definitions([
      ["Owner", adapter.owner],
      ["Tags", adapter.tags.length ? tags(adapter.tags) : null],
      ["Chat template", setting(page, adapter, "serve_chat_template", "chat template")],
      ["Sampling defaults", setting(page, adapter, "serve_sampling_defaults", "sampling defaults")],
      ["Registered", moment(adapter.created_at)],
      ["Updated", adapter.updated_at ? moment(adapter.updated_at) : null],
      ...metadataPairs(adapter.metadata),
    ]),
  ];
}

/** Whether requests get what a version was trained with, and a button to change that. */
function setting(page, adapter, field, what) {
  const isOwn = adapter[field];
  const [now, other] = isOwn
    ? ["each version's own, if it has one", "the base model's"]
    : ["the base model's", "each version's own"];
  const change = async () => {
    await send("PATCH", `api/v1/adapters/${part(adapter.name)}`, { [field]: !isOwn });
    await page.refresh();
  };
  const run = () => attempt(trigger, `Serve ${other} ${what}`, change);
  const trigger = button(`Serve ${other}`, run, {
    "aria-label": `Serve ${other} ${what}`,
    "data-focus": field,
  });
  return h("span", { class: "row" }, now, trigger);
}

/** Shows changes by other users as they happen. */
function followChanges(page, onLinkState) {
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(page.refresh, REFRESH_MS);
  };
  page.signal.addEventListener("abort", () => clearTimeout(timer));
  const query = { adapter: page.name };
  const { signal } = page;
  follow("api/v1/events/stream", { query, signal, onMessage: later, onState: onLinkState });
}
