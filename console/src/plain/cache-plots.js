// Hit ratio, lookups and load times of the last minutes.

import { fill, setText, svg } from "./dom.js";
import { percent, power, seconds } from "./format.js";
import * as plot from "./plot.js";
import { BUCKET_MS, MINUTE_MS, WINDOW_MS, buckets, loads, lookups, quantile, ratios } from "./decision-window.js";

const MOST_DOTS = 1500;
const OUTCOMES = ["gpu_hit", "host_hit", "miss"];

/** `{elements, draw(decisions, now)}`. */
export function makePlots() {
  const ratio = plot.figure("Hit ratio", [
    ["line-gpu", "in a slot"],
    ["line-memory", "in a slot or host memory"],
  ]);
  const counts = plot.figure("Lookups per 5 s", [
    ["bar-gpu_hit", "GPU hit"],
    ["bar-host_hit", "host hit"],
    ["bar-miss", "miss"],
  ]);
  const times = plot.figure("Load time", [
    ["dot-host", "disk → host memory"],
    ["dot-gpu", "host memory → slot"],
  ]);
  const draw = (decisions, now) => {
    const series = buckets(decisions, now);
    drawRatio(ratio, series, lookups(decisions.filter((each) => each.time > now - MINUTE_MS)));
    drawCounts(counts, series);
    drawTimes(times, loads(decisions), now);
  };
  return { elements: [ratio.element, counts.element, times.element], draw };
}

function describe({ picture, now }, text) {
  setText(now, text);
  picture.setAttribute("aria-label", text);
}

function drawRatio(figure, series, lastMinute) {
  const frame = plot.frameOf(figure);
  const y = plot.linear(0, 1, frame.bottom, frame.top);
  const width = (frame.right - frame.left) / series.length;
  const x = (n) => frame.left + (n + 0.5) * width;
  const line = (name, mark) =>
    plot
      .segments(series.map((each, n) => point(x(n), ratios(each)[name], y)))
      .map((segment) => svg("path", { class: mark, d: stroke(segment) }));
  fill(
    figure.picture,
    plot.axis(frame, [0, 0.5, 1], y, percent),
    plot.timeAxis(frame, WINDOW_MS),
    line("memory", "line-memory"),
    line("gpu", "line-gpu"),
  );
  const { gpu, memory } = ratios(lastMinute);
  const text = gpu === null ? "no lookups" : `${percent(gpu)} in a slot, ${percent(memory)} in memory`;
  describe(figure, `last minute: ${text}`);
}

function point(x, ratio, y) {
  return { x, y: ratio === null ? null : y(ratio) };
}

/** A single point is drawn too. */
function stroke(segment) {
  return segment.length > 1 ? plot.path(segment) : `${plot.path(segment)}h0.1`;
}

function drawCounts(figure, series) {
  const frame = plot.frameOf(figure);
  const ticks = plot.wholeTicks(Math.max(...series.map(({ total }) => total)));
  const y = plot.linear(0, ticks.at(-1), frame.bottom, frame.top);
  const width = (frame.right - frame.left) / series.length;
  const bars = series.map((each, n) => column(each, frame.left + n * width, width, y));
  fill(figure.picture, plot.axis(frame, ticks, y, String), plot.timeAxis(frame, WINDOW_MS), bars);
  const total = series.reduce((sum, each) => sum + each.total, 0);
  const rate = total / (WINDOW_MS / MINUTE_MS);
  describe(figure, `${total} in 5 min, ${rate.toFixed(rate < 10 ? 1 : 0)} a minute`);
}

function column(bucket, x, width, y) {
  let below = 0;
  const parts = OUTCOMES.filter((outcome) => bucket[outcome] > 0).map((outcome) => {
    const top = y(below + bucket[outcome]);
    const height = y(below) - top;
    below += bucket[outcome];
    return svg("rect", { class: `bar-${outcome}`, x: x + 0.5, y: top, width: width - 1, height });
  });
  if (!parts.length) return null;
  const { gpu_hit: gpu, host_hit: host, miss } = bucket;
  return svg("g", {}, svg("title", {}, `${gpu} GPU hits, ${host} host hits, ${miss} misses`), parts);
}

function drawTimes(figure, moves, now) {
  const frame = plot.frameOf(figure);
  const ticks = plot.powerTicks(moves.map((move) => move.seconds));
  const y = plot.logarithmic(ticks[0], ticks.at(-1), frame.bottom, frame.top);
  const end = Math.floor(now / BUCKET_MS) * BUCKET_MS + BUCKET_MS;
  const x = plot.linear(end - WINDOW_MS, end, frame.left, frame.right);
  const dots = moves
    .filter(({ time }) => time >= end - WINDOW_MS)
    .slice(-MOST_DOTS)
    .map((move) => plot.dot(`dot-${move.tier}`, x(move.time), y(move.seconds)));
  fill(figure.picture, plot.axis(frame, ticks, y, power), plot.timeAxis(frame, WINDOW_MS), dots);
  const fromDisk = moves.filter(({ tier }) => tier === "host").map((move) => move.seconds);
  const [half, most] = [0.5, 0.95].map((share) => seconds(quantile(fromDisk, share)));
  const text = `from disk: half within ${half}, 95 % within ${most}`;
  describe(figure, fromDisk.length ? text : "no loads from disk");
}
