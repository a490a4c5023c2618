// Notices: problems stay until they are dismissed, results disappear after a while.

import { render } from "preact";
import { Problem } from "./api.ts";

const RESULT_MS = 6000;

interface Notice {
  id: number;
  doing: string | null;
  text: string;
  /** Of a problem; a result has none. */
  problem: Problem | null;
}

let notices: readonly Notice[] = [];
let lastId = 0;
let isKeyAskedFor = false;

/** For screen readers only. */
export function announce(text: string): void {
  const place = document.getElementById("announcement")!;
  if (place.textContent !== text) place.textContent = text; // a live region tells only changes
}

/** The result of an action. */
export function showResult(text: string): void {
  const id = add({ doing: null, text, problem: null });
  setTimeout(() => remove(id), RESULT_MS);
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
  const isShown = (each: Notice) =>
    each.problem?.code === problem.code && each.doing === doing && each.text === problem.message;
  if (!notices.some(isShown)) add({ doing, text: problem.message, problem });
}

/** Removes the problems of something that works again. */
export function clearProblem(doing: string): void {
  if (notices.some((each) => each.doing === doing)) show(notices.filter((each) => each.doing !== doing));
}

/** Removes all notices, before the next page is shown or another key is used. */
export function clearNotices(): void {
  isKeyAskedFor = false;
  show([]);
}

function add(notice: Omit<Notice, "id">): number {
  const id = (lastId += 1);
  show([...notices, { id, ...notice }]);
  return id;
}

function remove(id: number): void {
  show(notices.filter((each) => each.id !== id));
}

function show(all: readonly Notice[]): void {
  notices = all;
  const each = all.map((notice) => <Shown key={notice.id} {...notice} />);
  render(<>{each}</>, document.getElementById("notices")!);
}

function Shown({ id, doing, text, problem }: Notice) {
  const wait = problem?.retryAfterSeconds ? ` Try again in ${problem.retryAfterSeconds} s.` : "";
  return (
    <div class={problem ? "notice problem" : "notice"} role={problem ? "alert" : "status"}>
      <p>
        {doing && <strong>{doing}: </strong>}
        {text}
        {wait}
      </p>
      {problem?.code && <code class="code">{problem.code}</code>}
      <button type="button" class="quiet" aria-label="Dismiss" onClick={() => remove(id)}>
        ×
      </button>
    </div>
  );
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
