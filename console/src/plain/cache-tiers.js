// Both tiers: residents in eviction order.

import { fill, h, keyed, setText, setVariables } from "./dom.js";
import { bytes, count, idle } from "./format.js";

const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const MOVE_MS = 260;
const MOST_MOVING = 120;

/** `{element, show(cache, selected), pulse(reference, outcome), flow(counts)}`. */
export function makeTiers(onSelect) {
  const gpu = tierSection("GPU slots");
  const host = tierSection("Host memory");
  const loading = h("div", { class: "loading", role: "status" });
  const strip = h("div", { class: "strip", "aria-hidden": "true" });
  host.head.append(strip);
  const toSlots = flowLine("host memory", "slots");
  const toHost = flowLine("disk", "host memory");
  const element = h(
    "section",
    { class: "tiers", "aria-label": "Both tiers" },
    gpu.element,
    toSlots.element,
    host.element,
    toHost.element,
    loading,
  );
  const show = (cache, selected) => {
    showGpu(gpu, cache, selected, onSelect);
    showHost(host, strip, cache, selected, onSelect);
    showLoading(loading, cache);
  };
  const flow = (counts) => {
    toSlots.show(counts.gpu);
    toHost.show(counts.host);
  };
  return { element, show, flow, pulse: (reference, what) => pulse(element, reference, what) };
}

function tierSection(title) {
  const summary = h("span", { class: "faint" });
  const cells = h("ul", { class: "cells", "aria-label": title });
  const head = h("header", {}, h("h2", {}, title), summary);
  return { element: h("div", { class: "tier" }, head, cells), head, summary, cells };
}

/** Loads and evictions between two tiers within the last minute. */
function flowLine(below, above) {
  const up = h("span", { class: "up" });
  const down = h("span", { class: "down" });
  const element = h("p", { class: "flow" }, up, down, h("span", { class: "faint" }, "last minute"));
  const show = ({ in: loaded, out: evicted }) => {
    setText(up, `↑ ${loaded} ${below} → ${above}`);
    setText(down, `↓ ${evicted} evicted`);
  };
  return { element, show };
}

function showGpu(tier, cache, selected, onSelect) {
  const { leased, pinned, idle, free } = cache.slots_by_state;
  const states = [`${leased} leased`, `${pinned} pinned`, `${idle} idle`, `${free} free`];
  setText(tier.summary, `${cache.slots}: ${states.join(" · ")}`);
  const able = cache.gpu.filter((each) => each.pinned !== "gpu" && !each.leases);
  const leaving = cache.hidden.gpu ? [] : able; // unknown if there are hidden ones
  showCells(tier.cells, bySlot(cache), { selected, leaving, onSelect });
}

/** A version may be on several replicas. */
function idOf({ reference, replica }) {
  return replica ? `${reference} ${replica}` : reference;
}

/** Slots stay in their order, whichever adapter is in them. */
export function bySlot({ slots, gpu, hidden, replicas = [] }) {
  const engines = replicas.length ? replicas : [{ name: null, slots }];
  const placed = engines.flatMap(({ name, slots: number }) =>
    Array.from({ length: number }, (_, n) =>
      gpu.find(({ slot, replica = null }) => slot === n && replica === name),
    ),
  );
  const unplaced = gpu.filter((each) => !placed.includes(each));
  const others = hiddenCells(hidden.gpu);
  return placed.map((each, n) => each ?? unplaced.shift() ?? others.shift() ?? blank("free", n));
}

/** Adapters that the viewer may not see have no name. */
function hiddenCells(number) {
  return Array.from({ length: number }, (_, n) => blank("another's", n));
}

function blank(text, n) {
  return { reference: `${text}-${n}`, blank: text };
}

function showHost(tier, strip, cache, selected, onSelect) {
  const inSlots = new Set(cache.gpu.map(idOf));
  const limit = cache.host_bytes_limit ? ` of ${bytes(cache.host_bytes_limit)}` : "";
  const taken = cache.host.length + cache.hidden.host;
  const used = `${taken} of ${cache.host_capacity} places · ${bytes(cache.host_bytes)}`;
  setText(tier.summary, used + limit);
  const canLeave = (each) => !each.pinned && !each.leases && !each.waiting;
  const able = cache.host.filter(canLeave);
  const outside = able.filter((each) => !inSlots.has(idOf(each)));
  const inOrder = [...outside, ...able.filter((each) => !outside.includes(each))];
  const leaving = cache.hidden.host ? [] : inOrder;
  const others = hiddenCells(Math.min(cache.hidden.host, 64));
  const places = Math.max(0, Math.min(cache.host_capacity - taken, 64));
  const free = Array.from({ length: places }, (_, n) => blank("free", n));
  showCells(tier.cells, [...cache.host, ...others, ...free], { selected, leaving, onSelect, inSlots });
  showStrip(strip, cache);
}

/** Host memory as one line: each adapter as wide as its bytes. */
function showStrip(strip, cache) {
  const whole = cache.host_bytes_limit ?? cache.host_bytes;
  keyed(
    strip,
    cache.host,
    idOf,
    () => h("span"),
    (element, { reference, replica, host_bytes: size, pinned }) => {
      element.title = `${reference}${replica ? ` on ${replica}` : ""}: ${bytes(size)}`;
      element.className = pinned ? "pinned" : "";
      setVariables(element, { "--share": `${(100 * size) / (whole || 1)}%` });
    },
  );
}

function showCells(list, residents, options) {
  const before = calm.matches || residents.length > MOST_MOVING ? null : positions(list);
  keyed(list, residents, idOf, makeCell(options), (element, resident) => {
    if (!resident.blank) updateCell(element, resident, options);
  });
  if (before) slide(list, before);
}

function makeCell({ onSelect }) {
  return (resident) => {
    if (resident.blank) return h("li", { class: "cell free" }, h("span", {}, resident.blank));
    const select = () => onSelect(resident.reference);
    const face = h("button", { type: "button", onclick: select });
    face.append(
      h("span", { class: "ref" }, resident.reference),
      h("span", { class: "size" }),
      h("span", { class: "marks" }),
    );
    return h("li", { class: "cell" }, face);
  };
}

/** `leaving`: those that may be evicted, next first. `inSlots`: for the host tier only. */
function updateCell(element, resident, { selected, leaving, inSlots }) {
  const onReplica = leaving.filter(({ replica }) => replica === resident.replica);
  const position = onReplica.findIndex(({ reference }) => reference === resident.reference);
  const marks = marksOf(resident, { position, inSlot: inSlots?.has(idOf(resident)) ?? false });
  element.className = `cell ${marks.map(([name]) => name).join(" ")}`;
  const face = element.firstElementChild;
  face.setAttribute("aria-pressed", String(resident.reference === selected));
  const [, size, markList] = face.children;
  const slot = !inSlots && resident.slot !== null ? `slot ${resident.slot} · ` : "";
  const where = resident.replica ? `${resident.replica} · ` : "";
  setText(size, `${where}${slot}r${resident.rank} · ${bytes(resident.host_bytes)}`);
  const text = marks.map(([, mark]) => mark).join("|");
  if (markList.dataset.text === text) return;
  markList.dataset.text = text;
  fill(markList, marks.map(([name, mark]) => h("span", { class: `mark-${name}` }, mark)));
}

/** States of an adapter: class and text. Each has a symbol of its own. */
function marksOf({ leases, waiting, pinned, leaving, idle_seconds: seconds }, { position, inSlot }) {
  return [
    leases ? ["leased", `▶ ${leases} leased`] : null,
    pinned ? ["pinned", `◆ pinned ${pinned}`] : null,
    waiting ? ["awaited", `… ${waiting} waiting`] : null,
    inSlot ? ["in-slot", "▲ in a slot"] : null,
    leaving ? ["leaving", "↘ evicted once idle"] : null,
    position === 0 ? ["next", "↘ next out"] : null,
    position > 0 ? ["later", `${position + 1}. out`] : null,
    !leases && seconds >= 1 ? ["idle", `idle ${idle(seconds)}`] : null,
  ].filter((mark) => mark !== null);
}

function showLoading(element, { loading, waiting }) {
  const quiet = loading.length + waiting === 0;
  keyed(
    element,
    [
      ...(quiet ? [{ key: "quiet", text: "Nothing is loading, and no request waits." }] : []),
      ...loading.map((reference) => ({ key: reference, text: `⟳ ${reference} is loading` })),
      ...(waiting ? [{ key: "waiting", text: `… ${count(waiting, "request")} waiting for a slot` }] : []),
    ],
    ({ key }) => key,
    ({ key }) => h("span", { class: key === "quiet" ? "faint" : "on-its-way" }),
    (each, { text }) => setText(each, text),
  );
}

// ---- motion ------------------------------------------------------------------------------

function positions(list) {
  return new Map([...list.children].map((cell) => [cell.dataset.key, cell.getBoundingClientRect()]));
}

/** Animates cells that changed their place. */
function slide(list, before) {
  for (const cell of list.children) {
    const from = before.get(cell.dataset.key);
    const to = cell.getBoundingClientRect();
    if (!from) cell.animate([{ opacity: 0 }, { opacity: 1 }], { duration: MOVE_MS });
    else if (from.left !== to.left || from.top !== to.top) {
      const translate = `${from.left - to.left}px ${from.top - to.top}px`;
      cell.animate([{ translate }, { translate: "0 0" }], { duration: MOVE_MS, easing: "ease-out" });
    }
  }
}

/** Animates a hit or a miss on the adapter's cells. */
function pulse(element, reference, what) {
  if (calm.matches) return;
  const name = CSS.escape(reference); // alone, or with its replica after it
  for (const cell of element.querySelectorAll(`[data-key="${name}"], [data-key^="${name} "]`)) {
    cell.classList.remove("pulse", "pulse-miss");
    void cell.offsetWidth; // restart the animation
    cell.classList.add(what === "miss" ? "pulse-miss" : "pulse");
  }
}
