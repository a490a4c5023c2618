// Sending: the one upload of this tab. It goes on whichever page is shown, and is found again here.

import { useEffect, useReducer } from "preact/hooks";
import { request, Problem, type Schema } from "../lib/api.ts";
import { announce, showProblem, showResult } from "../lib/notices.tsx";
import { pause } from "../lib/sse.ts";
import type { Chosen } from "./files.ts";
import { upload, type Registered } from "./upload.ts";

type Version = Schema["VersionRead"];
type Job = Schema["JobRead"];

export type Phase =
  | { is: "empty" }
  | { is: "chosen"; chosen: Chosen }
  | { is: "sending"; sent: number; total: number }
  | { is: "inspecting"; job: Job | null }
  | { is: "refused"; code: string; detail: string }
  | { is: "done"; version: Version; created: boolean };

const POLL_MS = 300;
const ENDED = new Set(["failed", "cancelled"]);

interface State {
  /** The adapter. */
  name: string;
  phase: Phase;
}

let state: State = { name: "", phase: { is: "empty" } };
let stopping = new AbortController();
const pages = new Set<() => void>();

/** What is sent, and how far it is. What has ended is forgotten when its page is left. */
export function useSending(): State & { isBusy: boolean } {
  const [, draw] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    pages.add(draw as () => void);
    return () => {
      pages.delete(draw as () => void);
      if (!isBusy()) state = { name: "", phase: { is: "empty" } };
    };
  }, []);
  return { ...state, isBusy: isBusy() };
}

function isBusy(): boolean {
  return state.phase.is === "sending" || state.phase.is === "inspecting";
}

export function show(phase: Phase): void {
  state = { ...state, phase };
  for (const draw of pages) draw();
}

export function stop(): void {
  stopping.abort();
}

/** Sends files and follows their registration to its end. */
export async function send(name: string, files: readonly File[], fields: Record<string, string>): Promise<void> {
  const { signal } = (stopping = new AbortController());
  const total = files.reduce((sum, file) => sum + file.size, 0);
  state = { name, phase: state.phase };
  show({ is: "sending", sent: 0, total });
  addEventListener("beforeunload", ask);
  try {
    const onProgress = (sent: number, whole: number) =>
      show(sent < whole ? { is: "sending", sent, total: whole } : { is: "inspecting", job: null });
    const answer = await upload(name, files, { fields, signal, onProgress });
    end(await follow(answer, signal));
  } catch (error) {
    end(refusalOf(error as Error));
  } finally {
    removeEventListener("beforeunload", ask);
  }
}

/** The browser asks before it leaves the console altogether: that would end the upload. */
function ask(event: BeforeUnloadEvent): void {
  if (state.phase.is === "sending") event.preventDefault();
}

/** Told where the user is: on the page, or in a notice on another. */
function end(phase: Phase): void {
  const text = phase.is === "done" ? `${phase.version.reference} is registered` : "refused";
  if (pages.size) announce(text);
  else if (phase.is === "done") showResult(text);
  else if (phase.is === "refused") showProblem(new Problem(0, phase.code, phase.detail), `Publish ${state.name}`);
  show(phase);
}

function refusalOf(error: Error): Phase {
  if (error.name === "AbortError") return { is: "refused", code: "stopped", detail: "it was stopped before all was sent" };
  return { is: "refused", code: error instanceof Problem ? error.code : "error", detail: error.message };
}

async function follow(answer: Registered, signal: AbortSignal): Promise<Phase> {
  if ("digest" in answer) return { is: "done", version: answer, created: true };
  let job = answer;
  while (job.version === null && !ENDED.has(job.state)) {
    show({ is: "inspecting", job });
    await pause(POLL_MS, signal);
    job = await request("get", "/api/v1/jobs/{number}", { path: { number: job.id }, signal });
  }
  if (job.version === null) return { is: "refused", code: job.code ?? job.state, detail: job.detail ?? `the job was ${job.state}` };
  const number = Number(job.version.split(":")[1]);
  const version = await request("get", "/api/v1/adapters/{name}/versions/{number}", { path: { name: job.adapter, number }, signal });
  return { is: "done", version, created: job.created !== false };
}
