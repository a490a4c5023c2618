// HTTP client of the REST API on the server that the page was loaded from.

const ROOT = new URL("..", import.meta.url);
const KEY = "adaptry.key";

/** A refusal of the API, or an unreachable server. `code` is stable, `message` is readable. */
export class Problem extends Error {
  constructor(status, code, detail, retryAfterSeconds = null) {
    super(detail);
    this.name = "Problem";
    this.status = status;
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Stored until the tab is closed. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

let serverAheadMs = 0;

/** The server's time in milliseconds, independent of the viewer's clock. */
export function serverNow() {
  return Date.now() + serverAheadMs;
}

/**
 * The response, if it is 2xx. A list in `query` repeats its name; null omits it.
 * Throws Problem, or AbortError on `signal`.
 */
export async function call(method, path, { body, query = {}, headers = {}, signal } = {}) {
  const all = new Headers(headers);
  if (key.get()) all.set("Authorization", `Bearer ${key.get()}`);
  if (body !== undefined) all.set("Content-Type", "application/json");
  const content = body === undefined ? undefined : JSON.stringify(body);
  const response = await orUnreachable(
    fetch(address(path, query), { method, headers: all, body: content, signal, cache: "no-store" }),
  );
  noteTime(response);
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function orUnreachable(response) {
  try {
    return await response;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "the server does not respond");
  }
}

export async function get(path, query, signal) {
  return (await call("GET", path, { query, signal })).json();
}

export async function send(method, path, body) {
  const response = await call(method, path, { body });
  return response.status === 204 ? null : response.json();
}

function address(path, query) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    const values = Array.isArray(value) ? value : [value];
    for (const each of values) {
      if (each !== null && each !== undefined && each !== "") url.searchParams.append(name, each);
    }
  }
  return url;
}

function noteTime(response) {
  const date = Date.parse(response.headers.get("date") ?? "");
  if (Number.isNaN(date)) return;
  const ahead = date - Date.now();
  // the header has whole seconds: small differences are rounding
  serverAheadMs = Math.abs(ahead) > 2000 ? ahead : 0;
}

async function problemOf(response) {
  const retry = Number(response.headers.get("retry-after")) || null;
  const { code, detail } = await errorIn(response);
  return new Problem(response.status, code, detail, retry);
}

/** Our problem details, errors in OpenAI's format, or any response of a proxy. */
async function errorIn(response) {
  const unknown = { code: `http_${response.status}`, detail: response.statusText || "refused" };
  let content;
  try {
    content = await response.json();
  } catch {
    return unknown;
  }
  const error = content?.error ?? content;
  if (typeof error === "string") return { ...unknown, detail: error };
  const detail = error?.detail ?? error?.message;
  return {
    code: typeof error?.code === "string" ? error.code : unknown.code,
    detail: typeof detail === "string" ? detail : unknown.detail,
  };
}

/** A name as one segment of a path. Throws Problem for `.` and `..`, which would change the path. */
export function part(name) {
  if (["", ".", ".."].includes(name)) {
    throw new Problem(0, "invalid_reference", `there is nothing named ${JSON.stringify(name)}`);
  }
  return encodeURIComponent(name);
}
