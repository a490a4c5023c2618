// Notices: problems stay until they are dismissed, results disappear after a while.

import { button, fill, h, setText } from "../plain/dom.js";
import { Problem } from "./api.ts";

const RESULT_MS = 6000;

let isKeyAskedFor = false;

/** For screen readers only. */
export function announce(text: string): void {
  setText(document.getElementById("announcement")!, text);
}

/** The result of an action. */
export function showResult(text: string): void {
  const notice = add("notice", "status", [h("p", {}, text)]);
  setTimeout(() => notice.remove(), RESULT_MS);
}

/** A refusal in the server's own words, with its code. Repeats none that is shown already. */
export function showProblem(error: unknown, doing: string | null = null): void {
  if ((error as Error).name === "AbortError") return;
  const problem = error as Problem;
  if (!(error instanceof Problem)) console.error(error);
  if (problem.status === 401) {
    if (document.querySelector("dialog[open]")) return; // one panel, however many were refused
    if (!isKeyAskedFor) {
      isKeyAskedFor = true; // who has closed it isn't asked by each poll again
      document.getElementById("key")!.click();
      return;
    }
  }
  const known = `${doing} ${problem.code} ${problem.message}`;
  const shown = [...document.querySelectorAll<HTMLElement>("#notices .problem")];
  if (shown.some((notice) => notice.dataset.what === known)) return;
  const notice = add("notice problem", "alert", problemParts(problem, doing));
  notice.dataset.what = known;
  notice.dataset.doing = doing ?? "";
}

/** Removes the problems of something that works again. */
export function clearProblem(doing: string): void {
  for (const notice of document.querySelectorAll<HTMLElement>("#notices .problem")) {
    if (notice.dataset.doing === doing) notice.remove();
  }
}

function problemParts(error: Problem, doing: string | null): unknown[] {
  const wait = error.retryAfterSeconds ? ` Try again in ${error.retryAfterSeconds} s.` : "";
  const text = h("p", {}, doing ? h("strong", {}, `${doing}: `) : null, error.message, wait);
  return [text, error.code ? h("code", { class: "code" }, error.code) : null];
}

function add(classes: string, role: string, parts: unknown[]): HTMLElement {
  const notice = h("div", { class: classes, role });
  const close = button("×", () => notice.remove(), { class: "quiet", "aria-label": "Dismiss" });
  fill(notice, parts, close);
  document.getElementById("notices")!.append(notice);
  return notice;
}

/** Removes all notices, before the next page is shown or another key is used. */
export function clearNotices(): void {
  isKeyAskedFor = false;
  fill(document.getElementById("notices")!);
}

/** Runs the action of a button: disabled while it runs, and a refusal is shown. */
export async function attempt(
  trigger: HTMLElement,
  doing: string,
  action: () => unknown,
): Promise<void> {
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
