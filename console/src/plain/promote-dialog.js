// Promotion and rollback of an alias. Both send its expected version, so that a concurrent move is
// never undone unnoticed.

import { part, send } from "../lib/api.ts";
import { button, check, field, fill, h, setText } from "./dom.js";
import { openDialog } from "./dialog.js";
import { choices } from "./components.js";
import { showResult } from "../lib/notices.ts";

/** Resolves to whether an alias moved. `aliases`: as the API lists them. */
export function promote(adapter, version, aliases) {
  const alias = h("input", { name: "alias", value: "default", required: true, list: "aliases" });
  const expected = h("p", { class: "faint", role: "status" });
  const now = () => aliases.find((each) => each.alias === alias.value.trim());
  const explain = () => fill(expected, expectation(now(), alias.value.trim()));
  alias.addEventListener("input", explain);
  explain();
  const move = async (options) => {
    const body = { version: version.number, expected_version: now()?.version ?? null, ...options };
    const path = `api/v1/adapters/${part(adapter)}/aliases/${part(alias.value.trim())}`;
    const moved = await send("PUT", path, body);
    showResult(`${moved.reference} means version ${moved.version}`);
  };
  const parts = [
    field("Alias", alias),
    choices("aliases", aliases.map((each) => each.alias)),
    expected,
  ];
  return aliasDialog(`Promote ${version.reference}`, "Promote", parts, move);
}

/** The same, back to `state`, one of the alias's history; null: to the one before. */
export function rollBack(alias, state) {
  const path = `api/v1/adapters/${part(alias.adapter)}/aliases/${part(alias.alias)}/rollback`;
  const move = async (options) => {
    const target = state === null ? {} : { revision: state.revision };
    const body = { expected_version: alias.version, ...target, ...options };
    const moved = await send("POST", path, body);
    showResult(`${moved.reference} means version ${moved.version} again`);
  };
  const goal = state === null ? "the previous state" : `revision ${state.revision}`;
  const parts = [h("p", {}, `Back to ${goal}. `, expectation(alias, alias.alias))];
  return aliasDialog(`Roll back ${alias.reference}`, "Roll back", parts, move);
}

function expectation(alias, name) {
  if (!alias) return name ? `There is no alias ${name} yet: it will be created.` : "";
  return `It moves only if it is still at version ${alias.version}.`;
}

function aliasDialog(title, verb, parts, move) {
  const problem = h("p", { class: "problem-text", role: "alert" });
  const options = optionFields();
  const submit = h("button", { class: "primary" }, verb);
  return openDialog(title, (close) => {
    const send_ = async (event) => {
      event.preventDefault();
      fill(problem);
      submit.disabled = true;
      setText(submit, `${verb} …`);
      try {
        await move(options.values());
        close(true);
      } catch (error) {
        fill(problem, error.message, " ", h("code", { class: "code" }, error.code ?? "error"));
        enable(submit, verb);
      }
    };
    const ends = h("div", { class: "row end" }, button("Cancel", () => close(false)), submit);
    return h("form", { onsubmit: send_ }, parts, options.element, problem, ends);
  });
}

function enable(submit, verb) {
  submit.disabled = false;
  setText(submit, verb);
  submit.focus();
}

function optionFields() {
  const warm = h("input", { type: "checkbox", checked: true });
  const probe = h("input", { type: "checkbox" });
  const evictOld = h("input", { type: "checkbox" });
  const timeout = h("input", { type: "number", min: 1, max: 3600, value: 60, class: "narrow" });
  const reason = h("input", { maxlength: 1024 });
  const values = () => ({
    warm: probe.checked || warm.checked ? null : false,
    probe: probe.checked,
    evict_old: evictOld.checked,
    timeout_seconds: Number(timeout.value) || 60,
    reason: reason.value.trim() || null,
  });
  const element = [
    check("Warm: load it into memory first", warm),
    check("Probe: generate with it first, and refuse it if that fails", probe),
    check("Evict the old version once it is idle", evictOld),
    field("Give up after (seconds)", timeout),
    field("Reason", reason, "Stored with the event."),
  ];
  return { element, values };
}
