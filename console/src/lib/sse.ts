// Server-Sent Events (WHATWG HTML, section 9.2) over fetch: EventSource can't send an API key.

import { call, Problem, type Query } from "./api.ts";

const FIRST_DELAY_MS = 2000;
const LONGEST_DELAY_MS = 30000;
const SILENCE_MS = 45000; // the server sends a heartbeat every 15 s
const FINAL = new Set([400, 401, 403, 404, 405, 422]);

export interface Message {
  id: string | null;
  event: string;
  data: string;
}

export type LinkState = "live" | "paused" | "waiting" | "refused";

interface Listeners {
  query?: Query;
  signal: AbortSignal;
  onMessage: (message: Message) => void;
  onState: (state: LinkState, problem: Problem | null) => void;
  onOpen?: () => void;
}

interface Position {
  lastId: string | null;
  retryMs: number;
  failures: number;
}

/** Parses chunks of text into messages. */
export class EventParser {
  #rest = "";
  #first = true;
  #data: string[] = [];
  #event = "";
  #id: string | null = null;
  lastId: string | null = null; // of the last complete message
  retryMs: number | null = null;

  /** The messages that are complete now. */
  push(text: string): Message[] {
    if (this.#first && text) {
      text = text.replace(/^\uFEFF/, "");
      this.#first = false;
    }
    // a CR at the end may be half of a CR LF
    const whole = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = whole.pop()!;
    return whole.map((line) => this.#line(line)).filter((message) => message !== null);
  }

  #line(line: string): Message | null {
    if (line === "") return this.#dispatch();
    const [, name, value = ""] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retryMs = Number(value);
    return null;
  }

  #dispatch(): Message | null {
    const data = this.#data;
    const event = this.#event || "message";
    this.#data = [];
    this.#event = "";
    this.lastId = this.#id;
    return data.length ? { id: this.lastId, event, data: data.join("\n") } : null;
  }
}

/**
 * Follows a stream until `signal`, resuming after the last id; not while the tab is hidden, as a
 * browser has few connections for all its tabs.
 */
export async function follow(path: string, listeners: Listeners): Promise<void> {
  const { signal, onState } = listeners;
  const position: Position = { lastId: null, retryMs: FIRST_DELAY_MS, failures: 0 };
  while (!signal.aborted) {
    if (document.hidden) onState("paused", null);
    await whileHidden(signal);
    if (signal.aborted) return;
    const problem = await connection(path, listeners, position);
    if (signal.aborted) return;
    if (problem !== null && FINAL.has(problem.status)) return onState("refused", problem);
    if (document.hidden) continue;
    onState("waiting", problem);
    await pause(delayMs(position, problem), signal);
  }
}

function delayMs({ retryMs, failures }: Position, problem: Problem | null): number {
  if (problem?.retryAfterSeconds) return problem.retryAfterSeconds * 1000;
  return Math.min(retryMs * 2 ** Math.max(0, failures - 1), LONGEST_DELAY_MS);
}

/** One connection; why it ended, or null if it just did. */
async function connection(path: string, listeners: Listeners, position: Position): Promise<Problem | null> {
  const { query = {}, signal, onMessage, onState, onOpen } = listeners;
  const ending = abortOn(signal);
  const headers: Record<string, string> = position.lastId === null ? {} : { "Last-Event-ID": position.lastId };
  try {
    const response = await call("GET", path, { query, headers, signal: ending.signal });
    onState("live", null);
    position.failures = 0;
    onOpen?.();
    await readAll(response, ending.stillAlive, onMessage, position);
    return null;
  } catch (error) {
    position.failures += 1;
    if ((error as Error).name === "AbortError") return null;
    return error instanceof Problem ? error : new Problem(0, "unreachable", "the stream was interrupted");
  } finally {
    ending.stop();
  }
}

async function readAll(response: Response, stillAlive: () => void, onMessage: (message: Message) => void, position: Position) {
  const parser = new EventParser();
  for await (const text of textsOf(response)) {
    stillAlive();
    for (const message of parser.push(text)) onMessage(message);
    position.lastId = parser.lastId ?? position.lastId;
    position.retryMs = parser.retryMs ?? position.retryMs;
  }
}

/** The body's text as it arrives. */
export async function* textsOf(response: Response): AsyncGenerator<string> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** Aborts with `signal`, when the tab is hidden, and after a long silence. */
function abortOn(signal: AbortSignal) {
  const controller = new AbortController();
  const abort = () => controller.abort();
  const hide = () => document.hidden && abort();
  let timer = setTimeout(abort, SILENCE_MS);
  signal.addEventListener("abort", abort);
  document.addEventListener("visibilitychange", hide);
  return {
    signal: controller.signal,
    stillAlive: () => {
      clearTimeout(timer);
      timer = setTimeout(abort, SILENCE_MS);
    },
    stop: () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      document.removeEventListener("visibilitychange", hide);
    },
  };
}

function whileHidden(signal: AbortSignal): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const done = new AbortController();
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      done.abort();
      resolve();
    };
    document.addEventListener("visibilitychange", look, { signal: done.signal });
    signal.addEventListener("abort", look, { signal: done.signal });
  });
}

/** Waits that long, or until `signal`. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end); // a page that stays open waits often
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
  });
}
