// The versions of an adapter; an open one shows its inspection and actions.

import { button, h, link } from "./dom.js";
import { bytes, count, moment } from "./format.js";
import { attempt, showProblem } from "../lib/notices.ts";
import { pin, prefetch, unpin } from "./cache-actions.js";
import { cells, definitions, empty, metadataPairs, stateTag, table, tags } from "./components.js";
import { promote } from "./promote-dialog.js";
import { showWhy } from "./why.js";

const COLUMNS = ["Version", "State", "In memory", "Rank", "Size", "Registered", "Details"];

export function versionsSection(page, versions, places) {
  const rows = versions.map((version) => versionRows(page, version, places));
  return [
    h("h2", {}, "Versions"),
    versions.length ? table("Versions", COLUMNS, rows) : empty("No version is registered."),
  ];
}

function versionRows(page, version, places) {
  const isOpen = page.openVersions.has(version.number);
  const where = places.get(version.reference);
  const row = h(
    "tr",
    {},
    h("th", { scope: "row" }, h("span", { class: "ref" }, version.reference)),
    cells(
      [stateTag(version.state), aliasesOf(page, version)],
      where?.text ?? h("span", { class: "faint" }, "on disk"),
      version.rank,
      bytes(version.size_bytes),
      moment(version.created_at),
      toggleButton(page, version, isOpen),
    ),
  );
  return isOpen ? [row, h("tr", { class: "open" }, details(page, version, where))] : [row];
}

function aliasesOf(page, version) {
  return page.aliases
    .filter((alias) => alias.weights.some((weight) => weight.version === version.number))
    .map((alias) => h("span", { class: "tag alias" }, `@${alias.alias}`));
}

function toggleButton(page, version, isOpen) {
  const toggle = () => {
    if (!page.openVersions.delete(version.number)) page.openVersions.add(version.number);
    return page.refresh();
  };
  return button("Details", toggle, {
    "aria-expanded": isOpen ? "true" : "false",
    "aria-label": `Details of ${version.reference}`,
    "data-focus": `details-${version.number}`,
  });
}

function details(page, version, where) {
  const why = h("div", { class: "why", "aria-live": "polite" });
  return h(
    "td",
    { colspan: COLUMNS.length },
    actions(page, version, where, why),
    version.state_reason ? stateReason(version) : null,
    version.description ? h("p", { class: "lead" }, version.description) : null,
    h("div", { class: "columns" }, facts(version), inspection(version.inspection)),
    why,
  );
}

function stateReason(version) {
  const code = version.state_code ? h("code", { class: "code" }, version.state_code) : null;
  return h("p", { class: "problem-text" }, `${version.state}: ${version.state_reason} `, code);
}

function actions(page, version, where, why) {
  const { reference } = version;
  const act = (text, action, id) => {
    const run = () => attempt(trigger, text, () => action().then(page.refresh));
    const trigger = button(text, run, { "data-focus": `${id}-${version.number}` });
    return trigger;
  };
  const promoted = () => promote(page.name, version, page.aliases);
  return h(
    "div",
    { class: "row actions", role: "group", "aria-label": `Actions for ${reference}` },
    act("Promote …", promoted, "promote"),
    act("Pin in a slot", () => pin(reference, "gpu"), "pin-gpu"),
    act("Pin in host memory", () => pin(reference, "host"), "pin-host"),
    where?.pinned ? act("Unpin", () => unpin(reference), "unpin") : null,
    act("Prefetch", () => prefetch(reference), "prefetch"),
    whyButton(page, reference, why),
    link("Try it", `#/try?a=${encodeURIComponent(reference)}`),
  );
}

function whyButton(page, reference, why) {
  const ask = () => showWhy(why, reference, page.signal).catch((error) => showProblem(error, "Why"));
  return button("Why?", ask, { "aria-label": `Why is ${reference} where it is?` });
}

function facts(version) {
  return definitions([
    ["Digest", h("code", { class: "wrap" }, version.digest)],
    ["Source", h("span", { class: "wrap" }, version.source)],
    ["Revision", version.revision],
    ["Base model", version.base],
    ["Trained on", version.base_model],
    ["Kind", version.kind === "activated" ? "activated LoRA" : "LoRA"],
    ["Chat template", version.has_chat_template ? "its own" : "the base model's"],
    ["Sampling defaults", samplingDefaults(version)],
    ["Alpha", version.alpha],
    ["Type", version.dtype],
    ["Target modules", version.target_modules.join(", ")],
    ["Tags", version.tags.length ? tags(version.tags) : null],
    ["Parent", version.parent],
    ["Training run", version.training_run],
    ["Dataset", version.dataset],
    ["Registered by", version.created_by],
    ["Changed", version.state_changed_at ? moment(version.state_changed_at) : null],
    ...metadataPairs(version.metadata),
  ]);
}

function samplingDefaults({ sampling_defaults: defaults }) {
  if (!defaults) return "the base model's";
  return Object.entries(defaults)
    .map(([name, value]) => `${name} ${JSON.stringify(value)}`)
    .join(", ");
}

function inspection(report) {
  if (report === null) return empty("Not inspected.");
  const files = Object.entries(report.files).map(([name, size]) => `${name} ${bytes(size)}`);
  const ranks = Object.entries(report.ranks).map(([rank, n]) => `${rank} (${count(n, "module")})`);
  return h(
    "div",
    {},
    h("h3", {}, "Inspection"),
    definitions([
      ["Modules", report.modules],
      ["Ranks", ranks.join(", ")],
      ["Tensors", report.tensors],
      ["Parameters", report.parameters.toLocaleString("en")],
      ["Shapes", report.shapes_checked ? "compared with the base model's" : "not compared"],
      ["Inspected for", report.engine],
      ["Files", files.join(", ")],
    ]),
    report.remarks.length ? remarks(report.remarks) : empty("No remarks."),
  );
}

function remarks(list) {
  return h(
    "ul",
    {},
    list.map(({ code, detail }) => h("li", {}, h("code", { class: "code" }, code), ` ${detail}`)),
  );
}
