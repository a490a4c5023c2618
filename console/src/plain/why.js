// Why an adapter is where it is: the server's own explanation.

import { get, part } from "../lib/api.ts";
import { decisionLine } from "./decisions.js";
import { fill, h } from "./dom.js";

const PLACES = { gpu: "in GPU slot", host: "in host memory", disk: "on disk only" };

/** Fills `element` with the explanation. Throws Problem. */
export async function showWhy(element, reference, signal) {
  const why = await get(`api/v1/cache/why/${part(reference)}`, {}, signal);
  if (signal?.aborted) return;
  fill(
    element,
    h("p", { class: "summary" }, why.summary),
    h("p", { class: "facts" }, facts(why.now)),
    why.decisions.length
      ? h("ol", { class: "decisions" }, why.decisions.map(decisionLine))
      : h("p", { class: "faint" }, "No recent decisions."),
  );
}

function facts(now) {
  const slot = now.slot === null || now.slot === undefined ? "" : ` ${now.slot}`;
  return [
    `${PLACES[now.tier] ?? now.tier}${slot}`,
    now.pinned ? `pinned (${now.pinned})` : null,
    now.leases ? `${now.leases} leased` : null,
    now.waiting ? `${now.waiting} waiting` : null,
    now.loading ? "loading" : null,
    now.leaving ? "evicted once idle" : null,
    now.next_victim ? "next victim" : null,
  ]
    .filter((fact) => fact !== null)
    .join(" · ");
}
