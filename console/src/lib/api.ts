// HTTP client of the REST API on the server that the page was loaded from. Its types are written
// from docs/openapi.json: a route or field that the API doesn't have is an error of the build.

import type { components, paths } from "../openapi.d.ts";

export type Schema = components["schemas"];
type Method = "get" | "put" | "post" | "patch" | "delete";
type Json<Content> = Content extends { content: { "application/json": infer Value } } ? Value : never;
type Answers<Operation> = Operation extends { responses: infer All }
  ? { [Status in keyof All]: Status extends 200 | 201 | 202 ? Json<All[Status]> : never }[keyof All]
  : never;
type Given<Operation> = Operation extends { parameters: { path: infer Path } } ? Path : undefined;
type Asked<Operation> = Operation extends { parameters: { query?: infer Query } } ? Query : undefined;
type Sent<Operation> = Operation extends { requestBody?: infer Body } ? Json<NonNullable<Body>> : undefined;
type Options<Operation> = {
  path?: Given<Operation>;
  query?: Asked<Operation>;
  body?: Sent<Operation>;
  signal?: AbortSignal;
};

type Value = string | number | boolean | null | undefined;
export type Query = Record<string, Value | readonly Value[]>;
type Call = { body?: unknown; query?: Query; headers?: Record<string, string>; signal?: AbortSignal };

const ROOT = new URL("..", import.meta.url);
const KEY = "adaptry.key";

/** A refusal of the API, or an unreachable server. `code` is stable, `message` is readable. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly retryAfterSeconds: number | null = null,
    readonly content: unknown = null,
  ) {
    super(detail);
    this.name = "Problem";
  }
}

/** Stored until the tab is closed. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value: string) =>
    value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY),
};

let serverAheadMs = 0;

/** The server's time in milliseconds, independent of the viewer's clock. */
export function serverNow(): number {
  return Date.now() + serverAheadMs;
}

/** The answer of one of the API's operations. Throws Problem, or AbortError on `signal`. */
export async function request<M extends Method, P extends keyof paths>(
  method: M,
  path: P,
  options: Options<paths[P][M]> = {},
): Promise<Answers<paths[P][M]>> {
  const given = (options.path ?? {}) as Record<string, string | number>;
  const filled = path.replace(/\{([^}]+)\}/g, (_, name: string) => part(String(given[name])));
  const query = (options.query ?? {}) as Query;
  const { body, signal } = options;
  const response = await call(method.toUpperCase(), filled.slice(1), { body, query, signal });
  return (response.status === 204 ? null : await response.json()) as Answers<paths[P][M]>;
}

/**
 * The response, if it is 2xx. A list in `query` repeats its name; null omits it.
 * Throws Problem, or AbortError on `signal` and if the key that is refused is no longer used.
 */
export async function call(method: string, path: string, given: Call = {}): Promise<Response> {
  const { body, query = {}, headers = {}, signal } = given;
  const used = key.get();
  const all = new Headers(headers);
  if (used) all.set("Authorization", `Bearer ${used}`);
  if (body !== undefined) all.set("Content-Type", "application/json");
  const content = body === undefined ? undefined : JSON.stringify(body);
  const response = await orUnreachable(
    fetch(address(path, query), { method, headers: all, body: content, signal, cache: "no-store" }),
  );
  noteTime(response);
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (problem.status === 401 && used !== key.get()) throw new DOMException("another key is used now", "AbortError");
  throw problem;
}

async function orUnreachable(response: Promise<Response>): Promise<Response> {
  try {
    return await response;
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "the server does not respond");
  }
}

/** The answer of a route that docs/openapi.json doesn't have: vLLM's own. Throws as `call` does. */
export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await call("GET", path, { signal })).json();
}

export function address(path: string, query: Query = {}): URL {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    const values = Array.isArray(value) ? value : [value];
    for (const each of values) {
      if (each !== null && each !== undefined && each !== "") url.searchParams.append(name, each);
    }
  }
  return url;
}

function noteTime(response: Response): void {
  const date = Date.parse(response.headers.get("date") ?? "");
  if (Number.isNaN(date)) return;
  const ahead = date - Date.now();
  // the header has whole seconds: small differences are rounding
  serverAheadMs = Math.abs(ahead) > 2000 ? ahead : 0;
}

async function problemOf(response: Response): Promise<Problem> {
  const retry = Number(response.headers.get("retry-after")) || null;
  let content: unknown = null;
  try {
    content = await response.json();
  } catch {
    // any response of a proxy
  }
  const { code, detail } = errorIn(content, response.status, response.statusText);
  return new Problem(response.status, code, detail, retry, content);
}

/** Our problem details, errors in OpenAI's format, or any response of a proxy. */
export function errorIn(content: any, status: number, text: string): { code: string; detail: string } {
  const unknown = { code: `http_${status}`, detail: text || "refused" };
  const error = content?.error ?? content;
  if (typeof error === "string") return { ...unknown, detail: error };
  const detail = error?.detail ?? error?.message;
  return {
    code: typeof error?.code === "string" ? error.code : unknown.code,
    detail: typeof detail === "string" ? detail : unknown.detail,
  };
}

/** A name as one segment of a path. Throws Problem for `.` and `..`, which would change the path. */
export function part(name: string): string {
  if (["", ".", ".."].includes(name)) {
    throw new Problem(0, "invalid_reference", `there is nothing named ${JSON.stringify(name)}`);
  }
  return encodeURIComponent(name);
}
