// Speaks to the REST API of the server that the page came from.

const ROOT = new URL("..", import.meta.url);
const KEY = "adaptry.key";

/** What the API refused, or that it can't be reached. `code` is stable, `message` for people. */
export class Problem extends Error {
  constructor(status, code, detail, retryAfterSeconds = null) {
    super(detail);
    this.name = "Problem";
    this.status = status;
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** The key lives as long as the tab. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

let serverAheadMs = 0;

/** The server's time in milliseconds, whatever the viewer's clock says. */
export function serverNow() {
  return Date.now() + serverAheadMs;
}

/**
 * The response, if it is a good one. A list in `query` repeats its name; null leaves it out.
 * Throws Problem, or AbortError if `signal` says so.
 */
export async function call(method, path, { body, query = {}, headers = {}, signal } = {}) {
  const asked = new Headers(headers);
  if (key.get()) asked.set("Authorization", `Bearer ${key.get()}`);
  if (body !== undefined) asked.set("Content-Type", "application/json");
  const content = body === undefined ? undefined : JSON.stringify(body);
  const response = await reached(
    fetch(address(path, query), { method, headers: asked, body: content, signal, cache: "no-store" }),
  );
  noteTime(response);
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function reached(response) {
  try {
    return await response;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "the server does not answer");
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
  const said = Date.parse(response.headers.get("date") ?? "");
  if (Number.isNaN(said)) return;
  const ahead = said - Date.now();
  // the header has whole seconds: small differences are its own
  serverAheadMs = Math.abs(ahead) > 2000 ? ahead : 0;
}

async function problemOf(response) {
  const retry = Number(response.headers.get("retry-after")) || null;
  const said = await saidBy(response);
  return new Problem(response.status, said.code, said.detail, retry);
}

/** Problem details of ours, errors in OpenAI's shape, or whatever a proxy says. */
async function saidBy(response) {
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

/** A name as one part of a path. Throws Problem for what can't be one: dots would climb. */
export function part(name) {
  if (["", ".", ".."].includes(name)) {
    throw new Problem(0, "invalid_reference", `there is nothing named ${JSON.stringify(name)}`);
  }
  return encodeURIComponent(name);
}
