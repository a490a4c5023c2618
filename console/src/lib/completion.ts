// One streamed completion, with its headers and the times of its tokens.

import { call, Problem } from "./api.ts";
import { EventParser, textsOf } from "./sse.ts";

const ROUTES = {
  chat: "v1/chat/completions",
  completions: "v1/completions",
};

export type Kind = keyof typeof ROUTES;

export interface Asked {
  kind: Kind;
  model: string;
  prompt: string;
  maxTokens: number;
  temperature: number;
}

/** What the response's head says. `invocation`: of an activated adapter, `found` or `missing`. */
export interface Head {
  version: string | null;
  cache: string | null;
  loadMs: string | null;
  invocation: string | null;
  deprecation: string | null;
}

/** `firstSeconds` is null if no text came. */
export interface Timing {
  firstSeconds: number | null;
  totalSeconds: number;
  tokens: number | null;
}

interface Listeners {
  signal: AbortSignal;
  onStart: (head: Head) => void;
  onText: (text: string) => void;
}

/** Sends a request and reports its answer as it comes. Throws Problem, or AbortError on `signal`. */
export async function complete(asked: Asked, { signal, onStart, onText }: Listeners): Promise<Timing> {
  const started = performance.now();
  const since = () => (performance.now() - started) / 1000;
  const response = await call("POST", ROUTES[asked.kind], { body: bodyOf(asked), signal });
  onStart(headOf(response));
  const timing: Timing = { firstSeconds: null, totalSeconds: 0, tokens: null };
  for await (const chunk of chunks(response)) {
    const text = textOf(chunk);
    if (text) {
      timing.firstSeconds ??= since();
      onText(text);
    }
    timing.tokens = chunk.usage?.completion_tokens ?? timing.tokens;
  }
  timing.totalSeconds = since();
  return timing;
}

function bodyOf({ kind, model, prompt, maxTokens, temperature }: Asked) {
  const what = kind === "chat" ? { messages: [{ role: "user", content: prompt }] } : { prompt };
  const options = { max_tokens: maxTokens, temperature };
  return { model, ...what, ...options, stream: true, stream_options: { include_usage: true } };
}

function headOf({ headers }: Response): Head {
  const deprecation = headers.get("x-adaptry-deprecation");
  return {
    version: headers.get("x-adaptry-version"),
    cache: headers.get("x-adaptry-cache"),
    loadMs: headers.get("x-adaptry-load-ms"),
    invocation: headers.get("x-adaptry-invocation"),
    deprecation: deprecation && decoded(deprecation),
  };
}

/** Headers have only ASCII: the reason is sent as part of a URL would be. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

interface Chunk {
  error?: { message?: string; code?: string | number };
  choices?: readonly { text?: string; delta?: { content?: string | null } }[];
  usage?: { completion_tokens?: number } | null;
}

/** Up to the end that the server tells: a stream that stops without it was cut off. */
async function* chunks(response: Response): AsyncGenerator<Chunk> {
  const parser = new EventParser();
  try {
    for await (const text of textsOf(response)) {
      for (const { data } of parser.push(text)) {
        if (data === "[DONE]") return;
        yield checked(JSON.parse(data));
      }
    }
  } catch (error) {
    if (error instanceof Problem || (error as Error).name === "AbortError") throw error;
  }
  throw new Problem(0, "stream_cut_off", "the answer was cut off");
}

/** A failure in the middle of a stream arrives as a chunk. */
function checked(chunk: Chunk): Chunk {
  if (!chunk.error) return chunk;
  const { message = "the answer was cut off", code = "stream_error" } = chunk.error;
  throw new Problem(0, String(code), message);
}

function textOf(chunk: Chunk): string {
  const choice = chunk.choices?.[0];
  return choice?.text ?? choice?.delta?.content ?? "";
}
