// One prompt against two references, side by side.

import { get } from "../lib/api.ts";
import { complete } from "./completion.js";
import { button, field, fill, h, setText } from "./dom.js";
import { seconds } from "./format.js";
import { announce, showProblem } from "../lib/notices.ts";
import { choices, definitions, heading } from "./components.js";

const OUTCOMES = {
  gpu_hit: "GPU hit: it was in a slot",
  host_hit: "host hit: it was in host memory",
  miss: "miss: it was on disk only",
};

export async function tryPage({ root, query, signal }) {
  const sides = ["A", "B"].map(makeSide);
  const form = promptForm(query, sides, signal);
  fill(root, heading("Try it"), form, h("div", { class: "sides" }, sides.map((s) => s.element)));
  await offerModels(root, form, signal);
}

function promptForm(query, sides, signal) {
  const value = (name, otherwise) => query.get(name) ?? otherwise;
  const prompt = h("textarea", { name: "prompt", rows: 3, required: true, spellcheck: "false" });
  prompt.value = value("prompt", "");
  const submit = h("button", { class: "primary", title: "Ctrl+Enter" }, "Send");
  const stop = button("Stop", () => form.running?.abort(), { disabled: true });
  const form = h(
    "form",
    { class: "prompt" },
    h("div", { class: "wide" }, field("Prompt", prompt)),
    field("Reference A", reference("a", value("a", ""))),
    field("Reference B", reference("b", value("b", "")), "Empty: only A."),
    field("Route", routes(value("kind", "completions"))),
    field("Max tokens", number("max_tokens", value("max_tokens", 64), { min: 1 })),
    field("Temperature", number("temperature", value("temperature", 0), { min: 0, step: "any" })),
    h("div", { class: "row prompt-buttons" }, submit, stop),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(form, sides, { submit, stop }, signal);
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  return form;
}

function reference(name, value) {
  const more = { autocomplete: "off", spellcheck: "false", required: name === "a" };
  return h("input", { name, value, list: "models", class: "ref", ...more });
}

function routes(chosen) {
  const option = (value, text) => h("option", { value, selected: value === chosen }, text);
  return h("select", { name: "kind" }, option("completions", "completions"), option("chat", "chat"));
}

function number(name, value, more) {
  return h("input", { name, value, type: "number", class: "narrow", ...more });
}

async function offerModels(root, form, signal) {
  try {
    const { data } = await get("v1/models", {}, signal);
    root.append(choices("models", data.map(({ id }) => id)));
  } catch (error) {
    showProblem(error, "The list of models");
  }
}

async function run(form, sides, { submit, stop }, left) {
  const given = Object.fromEntries(new FormData(form));
  const { kind, prompt } = given;
  history.replaceState(null, "", `#/try?${new URLSearchParams(given)}`);
  form.running = new AbortController();
  const signal = AbortSignal.any([form.running.signal, left]);
  submit.disabled = true;
  stop.disabled = false;
  const request = { kind, prompt, maxTokens: Number(given.max_tokens), temperature: Number(given.temperature) };
  const models = [given.a.trim(), given.b.trim()];
  await Promise.all(sides.map((side, n) => side.run({ ...request, model: models[n] }, signal)));
  submit.disabled = false;
  stop.disabled = true;
  announce(sides.map((side) => side.result()).join(" "));
}

function makeSide(letter) {
  const title = h("h2", {}, letter);
  const found = h("div", { class: "found" });
  const answer = h("pre", { class: "answer", tabindex: "0", role: "region", "aria-label": `Answer of ${letter}` });
  const times = h("div", {});
  const element = h("section", { class: "side", "aria-label": `Side ${letter}` });
  fill(element, title, found, answer, times);
  let result = "";
  const side = { element, result: () => result };
  side.run = async (request, signal) => {
    result = "";
    fill(title, letter, request.model ? h("span", { class: "ref" }, ` ${request.model}`) : null);
    [found, answer, times].forEach((each) => fill(each));
    element.classList.toggle("idle", !request.model);
    if (!request.model) return;
    setText(found, "waiting …");
    try {
      const onStart = (headers) => fill(found, headersShown(headers));
      const onText = (text) => answer.append(text);
      const timing = await complete(request, { signal, onStart, onText });
      fill(times, timesShown(timing));
      result = `${letter} answered after ${seconds(timing.totalSeconds)}.`;
    } catch (error) {
      result = `${letter} failed.`;
      if (!found.querySelector("dl")) fill(found);
      fill(times, failure(error));
    }
  };
  return side;
}

function headersShown({ version, cache, loadMs, deprecation }) {
  return definitions([
    ["x-adaptry-version", version ?? "none: the base model"],
    ["x-adaptry-cache", cache ? h("span", { title: OUTCOMES[cache] }, cache) : null],
    ["x-adaptry-load-ms", loadMs],
    ["x-adaptry-deprecation", deprecation],
  ]);
}

function timesShown({ firstSeconds, totalSeconds, tokens }) {
  const rate = tokens && totalSeconds ? `${(tokens / totalSeconds).toFixed(1)} tokens/s` : null;
  return definitions([
    ["First token", seconds(firstSeconds)],
    ["Total", seconds(totalSeconds)],
    ["Tokens", tokens],
    ["Rate", rate],
  ]);
}

function failure(error) {
  if (error.name === "AbortError") return h("p", { class: "faint" }, "stopped");
  return h(
    "p",
    { class: "problem-text", role: "alert" },
    `${error.message} `,
    h("code", { class: "code" }, error.code ?? "error"),
  );
}
