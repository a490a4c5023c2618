// One streamed completion, with what its headers say and when its tokens came.

import { call } from "./api.js";
import { EventParser } from "./sse.js";

const ROUTES = {
  chat: "v1/chat/completions",
  completions: "v1/completions",
};

/**
 * Asks and reports: `onStart({version, cache, loadMs})` once there is a first byte,
 * `onText(text)` for each piece. Resolves to `{firstSeconds, totalSeconds, tokens}`; the first is
 * null if no text came. Throws Problem.
 */
export async function complete(asked, { signal, onStart, onText }) {
  const started = performance.now();
  const since = () => (performance.now() - started) / 1000;
  const response = await call("POST", ROUTES[asked.kind], { body: bodyOf(asked), signal });
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

/** A failure in the middle of a stream can only come as one of its chunks. */
function checked(chunk) {
  if (!chunk.error) return chunk;
  throw Object.assign(new Error(chunk.error.message ?? "the answer broke off"), {
    code: String(chunk.error.code ?? "stream_error"),
  });
}

function textOf(chunk) {
  const choice = chunk.choices?.[0];
  return choice?.text ?? choice?.delta?.content ?? "";
}
