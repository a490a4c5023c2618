// Controls: the state of one reference, and the actions on it.

import { get } from "../lib/api.ts";
import { evict, pin, prefetch, unpin } from "./cache-actions.js";
import { button, check, field, fill, h } from "./dom.js";
import { adapterOf, bytes, idle } from "./format.js";
import { attempt, showProblem } from "../lib/notices.ts";
import { adapterLink, choices, definitions } from "./components.js";
import { showWhy } from "./why.js";

/** `{element, choose(reference), show(cache), explain(reference), changed()}`. */
export function makeControls(signal, changed) {
  const parts = makeParts(signal);
  const controls = { element: parts.element, changed };
  let cache = null;
  const refresh = () => fill(parts.facts, factsOf(cache, parts.input.value.trim()));
  controls.show = (now) => {
    cache = now;
    refresh();
  };
  controls.choose = (reference, { focus = false } = {}) => {
    parts.input.value = reference;
    fill(parts.why);
    refresh();
    if (focus) parts.heading.focus();
  };
  controls.explain = (reference) => {
    controls.choose(reference);
    return explain(parts, signal);
  };
  parts.input.addEventListener("input", () => (fill(parts.why), refresh()));
  parts.buttons.append(...actions(parts, controls, signal));
  return controls;
}

function makeParts(signal) {
  const input = h("input", { class: "ref", list: "known", autocomplete: "off", spellcheck: "false" });
  input.placeholder = "upper, upper@prod or upper:3";
  const heading = h("h2", { tabindex: "-1" }, "Control");
  const facts = h("div", { class: "control-facts" });
  const wait = h("input", { type: "checkbox" });
  const buttons = h("div", { class: "row actions", role: "group", "aria-label": "Actions" });
  const why = h("div", { class: "why", "aria-live": "polite" });
  const known = h("div", {});
  const element = h(
    "section",
    { class: "controls", "aria-label": "Control an adapter" },
    heading,
    field("Reference", input),
    facts,
    buttons,
    check("Evict waits for running requests", wait),
    why,
    known,
  );
  offerReferences(known, signal);
  return { element, input, heading, facts, wait, buttons, why };
}

async function offerReferences(element, signal) {
  try {
    const { items } = await get("api/v1/adapters", { limit: 200 }, signal);
    fill(element, choices("known", items.map(({ name }) => name)));
  } catch (error) {
    showProblem(error, "The list of adapters");
  }
}

function actions({ input, wait, ...parts }, controls, signal) {
  const act = (text, action) => {
    const run = async () => {
      const reference = input.value.trim();
      if (!reference) {
        input.focus();
        return;
      }
      await attempt(trigger, `${text} ${reference}`, () => action(reference));
      await controls.changed();
    };
    const trigger = button(text, run);
    return trigger;
  };
  return [
    act("Pin in a slot", (reference) => pin(reference, "gpu")),
    act("Pin in host memory", (reference) => pin(reference, "host")),
    act("Unpin", unpin),
    act("Prefetch", prefetch),
    act("Evict", (reference) => evict(reference, { wait: wait.checked })),
    act("Why?", () => explain({ input, ...parts }, signal)),
  ];
}

function explain({ input, why }, signal) {
  const reference = input.value.trim();
  return showWhy(why, reference, signal).catch((error) => showProblem(error, `Why ${reference}`));
}

/** Where it is now; an adapter without a version means all of its versions in memory. */
function factsOf(cache, reference) {
  if (!cache || !reference) return hint();
  const isIt = (each) => each.reference === reference || adapterOf(each.reference) === reference;
  const found = cache.host.filter(isIt);
  const inSlots = new Set(cache.gpu.map((each) => each.reference));
  if (!found.length) return onDisk(cache, reference, isIt);
  return found.map((each) => resident(each, inSlots.has(each.reference)));
}

function hint() {
  return h("p", { class: "faint" }, "Select an adapter, or type its name.");
}

function onDisk(cache, reference, isIt) {
  const isLoading = cache.loading.some((each) => isIt({ reference: each }));
  return h("p", { class: "faint" }, isLoading ? "It is loading." : `${reference} is not in memory.`);
}

function resident(each, inSlot) {
  const slot = each.slot !== null ? `GPU slot ${each.slot}` : "a GPU slot";
  return definitions([
    ["Version", adapterLink(adapterOf(each.reference), each.reference)],
    ["In", inSlot ? slot : "host memory"],
    ["Pinned", each.pinned ? `in the ${each.pinned} tier` : "no"],
    ["Leases", each.leases],
    ["Waiting", each.waiting],
    ["Hits", each.hits],
    ["Takes", bytes(each.host_bytes)],
    ["Idle", each.idle_seconds >= 1 ? idle(each.idle_seconds) : null],
  ]);
}
