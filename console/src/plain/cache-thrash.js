// Thrashing adapters, those that are evicted and loaded again, with a remedy.

import { get } from "../lib/api.ts";
import { pin } from "./cache-actions.js";
import { button, h, keyed, setText } from "./dom.js";
import { count } from "./format.js";
import { attempt } from "../lib/notices.ts";
import { adapterLink } from "./components.js";
import { THRASH_EVICTIONS, requestedAdapters } from "./decision-window.js";

const SHOWN = 3;
const MEND_MS = 30000;

/** `{element, show(thrashing, lastMinute, cache)}`. `controls.explain` explains one. */
export function makeThrash(controls, signal) {
  const lead = h("p", {});
  const mend = makeMend(signal);
  const list = h("ul", {});
  const element = h("section", { class: "thrash", "aria-label": "Thrashing", hidden: true });
  element.append(lead, mend.element, list);
  const show = (found, lastMinute, cache) => {
    element.hidden = found.length === 0;
    if (found.length) mend.refresh();
    if (cache) setText(lead, leadOf(found, requestedAdapters(lastMinute), cache));
    keyed(
      list,
      found.slice(0, SHOWN),
      ({ adapter, host }) => `${adapter} ${host >= THRASH_EVICTIONS}`,
      (each) => item(each, controls),
      (row, each) => setText(row.querySelector(".what"), times(each)),
    );
  };
  return { element: h("div", { role: "status" }, element), show };
}

/** What would help most, as the policy's shadows have it; nothing from a server without them. */
function makeMend(signal) {
  const element = h("p", { class: "mend", hidden: true });
  let askedAt = -Infinity;
  const refresh = async () => {
    if (performance.now() - askedAt < MEND_MS) return;
    askedAt = performance.now();
    const { mend } = await get("api/v1/cache/policy", {}, signal).catch(() => ({ mend: "" }));
    setText(element, mend);
    element.hidden = !mend;
  };
  return { element, refresh };
}

function leadOf(found, requested, { slots, host_capacity: places }) {
  const room = `${count(slots, "GPU slot")} and ${count(places, "place")} in host memory`;
  const more = found.length > SHOWN ? ` Of ${found.length} that thrash, the worst:` : "";
  return `${count(requested, "adapter was", "adapters were")} requested in the last minute, with ${room}.${more}`;
}

function times({ gpu, host }) {
  const left = [
    gpu ? `${count(gpu, "time")} from its GPU slot` : null,
    host ? `${count(host, "time")} from host memory` : null,
  ].filter((each) => each !== null);
  return ` was evicted ${left.join(" and ")} in the last minute: `;
}

/** An adapter evicted from host memory has to be read from disk again: fix that first. */
function item({ adapter, host }, controls) {
  const fromDisk = host >= THRASH_EVICTIONS;
  const flag = h("code", { class: "flag" }, fromDisk ? "--max-cpu-loras" : "--max-loras");
  const act = (text, tier) => {
    const run = () => attempt(trigger, `Pin ${adapter}`, () => pin(adapter, tier).then(controls.changed));
    const trigger = button(text, run, { "aria-label": `${text}: ${adapter}` });
    return trigger;
  };
  const explain = () => controls.explain(adapter);
  return h(
    "li",
    {},
    h("span", {}, adapterLink(adapter), h("span", { class: "what" }), "pin it or raise ", flag, "."),
    h(
      "div",
      { class: "row" },
      act("Pin in a slot", "gpu"),
      fromDisk ? act("Pin in host memory", "host") : null,
      button("Why?", explain, { "aria-label": `Why does ${adapter} thrash?` }),
    ),
  );
}
