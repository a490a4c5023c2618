// One streamed completion, with its headers and the times of its tokens.

import { call } from "../lib/api.ts";
import { EventParser } from "./sse.js";

const ROUTES = {
  chat: "v1/chat/completions",
  completions: "v1/completions",
};

/**
 * Sends a request and reports: `onStart({version, cache, loadMs})` with the response's head,
 * `onText(text)` for each chunk. Resolves to `{firstSeconds, totalSeconds, tokens}`; the first is
 * null if no text came. Throws Problem.
 */
export async function complete(request, { signal, onStart, onText }) {
  const started = performance.now();
  const since = () => (performance.now() - started) / 1000;
  const response = await call("POST", ROUTES[request.kind], { body: bodyOf(request), signal });
  onStart(headersOf(response));
  const timing = { firstSeconds: null, totalSeconds: 0, tokens: null };
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

function bodyOf({ kind, model, prompt, maxTokens, temperature }) {
  const what = kind === "chat" ? { messages: [{ role: "user", content: prompt }] } : { prompt };
  const options = { max_tokens: maxTokens, temperature };
  return { model, ...what, ...options, stream: true, stream_options: { include_usage: true } };
}

function headersOf({ headers }) {
  return {
    version: headers.get("x-adaptry-version"),
    cache: headers.get("x-adaptry-cache"),
    loadMs: headers.get("x-adaptry-load-ms"),
    deprecation: headers.get("x-adaptry-deprecation"),
  };
}

async function* chunks(response) {
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const { data } of parser.push(value)) {
      if (data === "[DONE]") return;
      yield checked(JSON.parse(data));
    }
  }
}

/** A failure in the middle of a stream arrives as a chunk. */
function checked(chunk) {
  if (!chunk.error) return chunk;
  throw Object.assign(new Error(chunk.error.message ?? "the response was cut off"), {
    code: String(chunk.error.code ?? "stream_error"),
  });
}

function textOf(chunk) {
  const choice = chunk.choices?.[0];
  return choice?.text ?? choice?.delta?.content ?? "";
}
