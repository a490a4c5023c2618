// What has to be said: problems stay until they are dismissed, results go by themselves.

import { button, fill, h, say } from "./dom.js";
import { Problem } from "./api.js";

const RESULT_MS = 6000;

/** Spoken by screen readers, seen by nobody. */
export function announce(text) {
  say(document.getElementById("said"), text);
}

/** Something went as it was asked. */
export function done(text) {
  const notice = add("notice", "status", [h("p", {}, text)]);
  setTimeout(() => notice.remove(), RESULT_MS);
}

/** A refusal in the server's own words, with its code. Says again nothing that stands there. */
export function refused(error, doing = null) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Problem)) console.error(error);
  const known = `${doing} ${error.code} ${error.message}`;
  const shown = [...document.querySelectorAll("#notices .problem")];
  if (shown.some((notice) => notice.dataset.what === known)) return;
  const notice = add("notice problem", "alert", problemParts(error, doing));
  notice.dataset.what = known;
  notice.dataset.doing = doing;
}

/** It works again: what was said of it is over. */
export function works(doing) {
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

/** Takes away what was said, as the next page begins. */
export function clearNotices() {
  fill(document.getElementById("notices"));
}

/** Runs an action of a button: no second press meanwhile, and its refusal is shown. */
export async function attempt(trigger, doing, action) {
  if (trigger.getAttribute("aria-disabled") === "true") return;
  trigger.setAttribute("aria-disabled", "true");
  trigger.classList.add("busy");
  try {
    await action();
  } catch (error) {
    refused(error, doing);
  } finally {
    trigger.removeAttribute("aria-disabled");
    trigger.classList.remove("busy");
  }
}
