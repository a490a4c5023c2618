// Small components that several pages use.

import { h, link } from "./dom.js";

export function stateTag(state) {
  return h("span", { class: "state", "data-state": state }, state);
}

export function tags(list) {
  return list.map((tag) => h("span", { class: "tag" }, tag));
}

export function adapterLink(name, text = name) {
  return link(text, `#/adapters/${encodeURIComponent(name)}`, { class: "ref" });
}

/** Pairs of a term and its value; null omits one. */
export function definitions(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h(
    "dl",
    { class: "facts-list" },
    shown.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))),
  );
}

/** Users' JSON as text. */
export function metadataPairs(metadata) {
  return Object.entries(metadata).map(([name, value]) => [
    name,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
}

export function heading(title, ...more) {
  return h("div", { class: "page-head" }, h("h1", {}, title), more);
}

/**
 * A table that scrolls if it is too wide for the page. On phones each row is a block with a label
 * before each cell; the roles keep it a table for screen readers.
 */
export function table(caption, columns, rows) {
  const heads = columns.map((column) => h("th", { scope: "col", role: "columnheader" }, column));
  const body = h("tbody", { role: "rowgroup" }, rows);
  for (const row of body.children) label(row, columns);
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      { role: "table" },
      h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)),
      body,
    ),
  );
}

/** What `table` does to its rows, for rows that are added later. */
export function label(row, columns) {
  row.setAttribute("role", "row");
  [...row.children].forEach((cell, n) => {
    cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
    if (row.children.length === columns.length) cell.dataset.label = columns[n];
  });
  return row;
}

export function cells(...contents) {
  return contents.map((content) => h("td", {}, content));
}

export function empty(text) {
  return h("p", { class: "faint" }, text);
}

/** Texts to choose from while typing. */
export function choices(id, texts) {
  return h("datalist", { id }, texts.map((text) => h("option", { value: text })));
}
