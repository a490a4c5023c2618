// Moving an alias, forwards and back. Both say where they believe it is, so that nobody's move is
// undone unseen.

import { part, send } from "./api.js";
import { button, check, field, fill, h } from "./dom.js";
import { openDialog } from "./dialog.js";
import { choices } from "./parts.js";
import { done } from "./notices.js";

/** Resolves to whether an alias moved. `aliases`: as the API lists them. */
export function promote(adapter, version, aliases) {
  const alias = h("input", { name: "alias", value: "default", required: true, list: "aliases" });
  const expected = h("p", { class: "faint", role: "status" });
  const now = () => aliases.find((each) => each.alias === alias.value.trim());
  const explain = () => fill(expected, whereItIs(now(), alias.value.trim()));
  alias.addEventListener("input", explain);
  explain();
  const move = async (options) => {
    const body = { version: version.number, expected_version: now()?.version ?? null, ...options };
    const path = `api/v1/adapters/${part(adapter)}/aliases/${part(alias.value.trim())}`;
    const moved = await send("PUT", path, body);
    done(`${moved.reference} means version ${moved.version}`);
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
    done(`${moved.reference} means version ${moved.version} again`);
  };
  const goal = state === null ? "the state before" : `revision ${state.revision}`;
  const parts = [h("p", {}, `Back to ${goal}. `, whereItIs(alias, alias.alias))];
  return aliasDialog(`Roll back ${alias.reference}`, "Roll back", parts, move);
}

function whereItIs(alias, name) {
  if (!alias) return name ? `There is no alias ${name} yet: it is made.` : "";
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
      say(submit, `${verb} …`);
      try {
        await move(options.values());
        close(true);
      } catch (error) {
        fill(problem, error.message, " ", h("code", { class: "code" }, error.code ?? "error"));
        again(submit, verb);
      }
    };
    const ends = h("div", { class: "row end" }, button("Cancel", () => close(false)), submit);
    return h("form", { onsubmit: send_ }, parts, options.element, problem, ends);
  });
}

function say(element, text) {
  element.textContent = text;
}

function again(submit, verb) {
  submit.disabled = false;
  say(submit, verb);
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
    check("Warm: bring it into memory first", warm),
    check("Probe: let it generate first, and refuse what fails", probe),
    check("Put the old version out of memory once it is idle", evictOld),
    field("Give up after (seconds)", timeout),
    field("Reason", reason, "Kept with the event."),
  ];
  return { element, values };
}
