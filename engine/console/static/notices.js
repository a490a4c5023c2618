// Notices: problems stay until they are dismissed, results disappear after a while.

import { button, fill, h, setText } from "./dom.js";
import { Problem } from "./api.js";

const RESULT_MS = 6000;

/** For screen readers only. */
export function announce(text) {
  setText(document.getElementById("announcement"), text);
}

/** The result of an action. */
export function showResult(text) {
  const notice = add("notice", "status", [h("p", {}, text)]);
  setTimeout(() => notice.remove(), RESULT_MS);
}

/** A refusal in the server's own words, with its code. Repeats none that is shown already. */
export function showProblem(error, doing = null) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Problem)) console.error(error);
  const known = `${doing} ${error.code} ${error.message}`;
  const shown = [...document.querySelectorAll("#notices .problem")];
  if (shown.some((notice) => notice.dataset.what === known)) return;
  const notice = add("notice problem", "alert", problemParts(error, doing));
  notice.dataset.what = known;
  notice.dataset.doing = doing;
}

/** Removes the problems of something that works again. */
export function clearProblem(doing) {
  for (const notice of document.querySelectorAll("#notices .problem")) {
    if (notice.dataset.doing === doing) notice.remove();
  }
}

function problemParts(error, doing) {
  const wait = error.retryAfterSeconds ? ` Try again in ${error.retryAfterSeconds} s.` : "";
  const text = h("p", {}, doing ? h("strong", {}, `${doing}: `) : null, error.message, wait);
  const code = error.code ? h("code", { class: "code" }, error.code) : null;
  return [text, code, error.status === 401 ? keyButton() : null];
}

function keyButton() {
  return button("Enter the API key", () => document.getElementById("key").click());
}

function add(classes, role, parts) {
  const notice = h("div", { class: classes, role });
  const close = button("×", () => notice.remove(), { class: "quiet", "aria-label": "Dismiss" });
  fill(notice, parts, close);
  document.getElementById("notices").append(notice);
  return notice;
}

/** Removes all notices, before the next page is shown. */
export function clearNotices() {
  fill(document.getElementById("notices"));
}

/** Runs the action of a button: disabled while it runs, and a refusal is shown. */
export async function attempt(trigger, doing, action) {
  if (trigger.getAttribute("aria-disabled") === "true") return;
  trigger.setAttribute("aria-disabled", "true");
  trigger.classList.add("busy");
  try {
    await action();
  } catch (error) {
    showProblem(error, doing);
  } finally {
    trigger.removeAttribute("aria-disabled");
    trigger.classList.remove("busy");
  }
}
