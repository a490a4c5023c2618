// The aliases of an adapter, each with its history.

import { get, part } from "../lib/api.ts";
import { button, h, link } from "./dom.js";
import { moment } from "./format.js";
import { cells, empty, table } from "./components.js";
import { rollBack } from "./promote-dialog.js";

const STATES = 50;

/** `page`: the adapter's page, which knows what is open and how to refresh itself. */
export async function aliasesSection(page, aliases) {
  const rows = await Promise.all(aliases.map((alias) => aliasRows(page, alias)));
  const columns = ["Alias", "Version", "Revision", "Since", "By", "Reason", "Actions"];
  const body = aliases.length
    ? table("Aliases", columns, rows)
    : empty("No alias points at it: only references with a version, like name:1, are served.");
  return [h("h2", {}, "Aliases"), body];
}

async function aliasRows(page, alias) {
  const isOpen = page.openAliases.has(alias.alias);
  const row = h(
    "tr",
    {},
    h("th", { scope: "row" }, h("span", { class: "ref" }, `@${alias.alias}`)),
    cells(
      versionsOf(alias),
      alias.revision,
      moment(alias.valid_from),
      alias.moved_by,
      alias.reason,
      actions(page, alias, isOpen),
    ),
  );
  return isOpen ? [row, h("tr", { class: "open" }, await historyCell(page, alias))] : [row];
}

/** `2`, or `1 (90 %), 2 (10 %)` if it is split. */
function versionsOf(state) {
  if (state.weights.length === 1) return String(state.version);
  const whole = state.weights.reduce((sum, { weight }) => sum + weight, 0);
  return state.weights
    .map(({ version, weight }) => `${version} (${Math.round((100 * weight) / whole)} %)`)
    .join(", ");
}

function actions(page, alias, isOpen) {
  const back = async () => {
    if (await rollBack(alias, null)) await page.refresh();
  };
  return h(
    "div",
    { class: "row" },
    button("Roll back …", back, { "data-focus": `back-${alias.alias}` }),
    button("History", () => toggle(page, alias), {
      "aria-expanded": isOpen ? "true" : "false",
      "data-focus": `history-${alias.alias}`,
    }),
    link("Try it", `#/try?a=${encodeURIComponent(alias.reference)}`),
  );
}

function toggle(page, { alias }) {
  if (!page.openAliases.delete(alias)) page.openAliases.add(alias);
  return page.refresh();
}

async function historyCell(page, alias) {
  const path = `api/v1/adapters/${part(alias.adapter)}/aliases/${part(alias.alias)}/history`;
  const history = await get(path, { limit: STATES }, page.signal);
  const columns = ["Revision", "Version", "From", "To", "By", "Reason", ""];
  const rows = history.items.map((state) => historyRow(page, alias, state));
  return h("td", { colspan: 7 }, table(`History of ${alias.reference}`, columns, rows));
}

function historyRow(page, alias, state) {
  const back = async () => {
    if (await rollBack(alias, state)) await page.refresh();
  };
  const isNow = state.valid_to === null;
  return h(
    "tr",
    {},
    cells(
      state.revision,
      versionsOf(state),
      moment(state.valid_from),
      isNow ? "now" : moment(state.valid_to),
      state.moved_by,
      state.reason,
      isNow ? null : button("Back to this …", back),
    ),
  );
}
