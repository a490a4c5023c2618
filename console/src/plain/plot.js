// Plots as inline SVG. Scales are plain functions; nothing here knows what is drawn.

import { h, svg } from "./dom.js";

const HEIGHT = 132;
const MARGIN = { left: 46, right: 10, top: 8, bottom: 20 };

/** From a range of values to one of pixels. */
export function linear(from, to, low, high) {
  const span = to - from || 1;
  return (value) => low + ((value - from) / span) * (high - low);
}

/** The same, logarithmic; both ends must be above zero. */
export function logarithmic(from, to, low, high) {
  const scale = linear(Math.log10(from), Math.log10(to), low, high);
  return (value) => scale(Math.log10(Math.max(value, from)));
}

/** Round whole numbers from 0 up to at least `most`, at most five of them. */
export function wholeTicks(most) {
  let step = 1;
  for (const factor of steps()) {
    step = factor;
    if (Math.ceil(most / step) <= 4) break;
  }
  const end = Math.max(1, Math.ceil(most / step)) * step;
  return Array.from({ length: end / step + 1 }, (_, n) => n * step);
}

function* steps() {
  for (let ten = 1; ; ten *= 10) yield* [ten, 2 * ten, 5 * ten];
}

/** Powers of ten around all values. */
export function powerTicks(values) {
  if (!values.length) return [0.001, 0.01, 0.1, 1];
  const low = Math.floor(Math.log10(Math.max(1e-6, Math.min(...values))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(1e-6, ...values))));
  return Array.from({ length: high - low + 1 }, (_, n) => 10 ** (low + n));
}

/** The parts of a line that have values: nothing is drawn across a gap. */
export function segments(points) {
  const found = [[]];
  for (const point of points) {
    if (point.y === null) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter((segment) => segment.length > 0);
}

/** A figure with a title, the current value, and a legend. */
export function figure(title, legend) {
  const now = h("p", { class: "now" });
  const picture = svg("svg", { role: "img", height: HEIGHT });
  const caption = h("figcaption", {}, h("h3", {}, title), now);
  const marks = h("ul", { class: "legend" }, legend.map(legendItem));
  return { element: h("figure", { class: "plot" }, caption, picture, marks), picture, now };
}

/** Where to draw, in pixels of the page: texts keep their size however wide the figure is. */
export function frameOf({ picture }) {
  const width = Math.max(180, picture.clientWidth || 400);
  picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const { left, right, top, bottom } = MARGIN;
  return { left, right: width - right, top, bottom: HEIGHT - bottom };
}

function legendItem([mark, text]) {
  const swatch = svg("svg", { viewBox: "0 0 14 10", "aria-hidden": "true" }, sample(mark));
  return h("li", {}, swatch, text);
}

function sample(mark) {
  if (mark.startsWith("line")) return svg("path", { class: mark, d: "M0 5H14" });
  if (mark.startsWith("dot")) return dot(mark, 7, 5);
  return svg("rect", { class: mark, width: 14, height: 10 });
}

/** Round or square: distinguishable without colour. */
export function dot(mark, x, y) {
  if (mark === "dot-host") return svg("circle", { class: mark, cx: x, cy: y, r: 2.6 });
  return svg("rect", { class: mark, x: x - 2.2, y: y - 2.2, width: 4.4, height: 4.4 });
}

/** Lines and labels for the values of a vertical axis. */
export function axis(frame, ticks, scale, label) {
  return ticks.map((tick) => {
    const y = scale(tick);
    return svg(
      "g",
      {},
      svg("path", { class: "grid", d: `M${frame.left} ${y}H${frame.right}` }),
      svg("text", { class: "tick", x: frame.left - 6, y: y + 3.5, "text-anchor": "end" }, label(tick)),
    );
  });
}

/** Minutes before now, below. */
export function timeAxis(frame, windowMs) {
  const minutes = windowMs / 60000;
  const scale = linear(minutes, 0, frame.left, frame.right);
  const y = frame.bottom + 14;
  return Array.from({ length: minutes + 1 }, (_, ago) => {
    const anchor = ago === 0 ? "end" : "middle";
    const text = ago === 0 ? "now" : `−${ago}${ago === minutes ? " min" : ""}`;
    return svg("text", { class: "tick", x: scale(ago), y, "text-anchor": anchor }, text);
  });
}

/** An SVG path through points. */
export function path(points) {
  return points.map(({ x, y }, n) => `${n ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}
