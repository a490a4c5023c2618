// Server-Sent Events (WHATWG HTML, section 9.2) over fetch: EventSource can't send an API key.

import { call, Problem } from "../lib/api.ts";

const FIRST_DELAY_MS = 2000;
const LONGEST_DELAY_MS = 30000;
const SILENCE_MS = 45000; // the server sends a heartbeat every 15 s
const FINAL = new Set([400, 401, 403, 404, 405, 422]);

/** Parses chunks of text into messages `{id, event, data}`. */
export class EventParser {
  #rest = "";
  #first = true;
  #data = [];
  #event = "";
  #id = null;
  lastId = null; // of the last complete message
  retryMs = null;

  /** The messages that are complete now. */
  push(text) {
    if (this.#first && text) {
      text = text.replace(/^\uFEFF/, "");
      this.#first = false;
    }
    // a CR at the end may be half of a CR LF
    const whole = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = whole.pop();
    return whole.map((line) => this.#line(line)).filter((message) => message !== null);
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retryMs = Number(value);
    return null;
  }

  #dispatch() {
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
 * browser has few connections for all its tabs. `onState` gets `live`, `paused`, `waiting` or
 * `refused`, with the Problem if there is one.
 * @param {string} path
 * @param {{query?: object, signal: AbortSignal, onMessage: (message: any) => void, onState: (state: any, problem?: any) => void, onOpen?: () => void}} options
 */
export async function follow(path, { query = {}, signal, onMessage, onState, onOpen = () => {} }) {
  const position = { lastId: null, retryMs: FIRST_DELAY_MS, failures: 0 };
  while (!signal.aborted) {
    if (document.hidden) onState("paused", null);
    await whileHidden(signal);
    if (signal.aborted) return;
    const problem = await connection(path, { query, signal, onMessage, onState, onOpen, position });
    if (signal.aborted) return;
    if (problem !== null && FINAL.has(problem.status)) {
      onState("refused", problem);
      return;
    }
    if (document.hidden) continue;
    onState("waiting", problem);
    await pause(delayMs(position, problem), signal);
  }
}

function delayMs({ retryMs, failures }, problem) {
  if (problem?.retryAfterSeconds) return problem.retryAfterSeconds * 1000;
  return Math.min(retryMs * 2 ** Math.max(0, failures - 1), LONGEST_DELAY_MS);
}

/** One connection; why it ended, or null if it just did. */
async function connection(path, { query, signal, onMessage, onState, onOpen, position }) {
  const ending = abortOn(signal);
  const headers = position.lastId === null ? {} : { "Last-Event-ID": position.lastId };
  try {
    const response = await call("GET", path, { query, headers, signal: ending.signal });
    onState("live", null);
    position.failures = 0;
    onOpen();
    await readAll(response, ending, onMessage, position);
    return null;
  } catch (error) {
    position.failures += 1;
    if (error.name === "AbortError") return null;
    return error instanceof Problem ? error : new Problem(0, "unreachable", "the stream was interrupted");
  } finally {
    ending.stop();
  }
}

async function readAll(response, ending, onMessage, position) {
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    ending.stillAlive();
    for (const message of parser.push(value)) onMessage(message);
    position.lastId = parser.lastId ?? position.lastId;
    position.retryMs = parser.retryMs ?? position.retryMs;
  }
}

/** Aborts with `signal`, when the tab is hidden, and after a long silence. */
function abortOn(signal) {
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

function whileHidden(signal) {
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
export function pause(milliseconds, signal) {
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
