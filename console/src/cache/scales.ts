// Scales of plots: from values to pixels, and the values to mark. No DOM: numbers only.

export type Scale = (value: number) => number;

/** From a range of values to one of pixels. */
export function linear(from: number, to: number, low: number, high: number): Scale {
  const span = to - from || 1;
  return (value) => low + ((value - from) / span) * (high - low);
}

/** The same, logarithmic; both ends must be above zero. */
export function logarithmic(from: number, to: number, low: number, high: number): Scale {
  const scale = linear(Math.log10(from), Math.log10(to), low, high);
  return (value) => scale(Math.log10(Math.max(value, from)));
}

/** Round whole numbers from 0 up to at least `most`, at most five of them. */
export function wholeTicks(most: number): number[] {
  let step = 1;
  for (const factor of steps()) {
    step = factor;
    if (Math.ceil(most / step) <= 4) break;
  }
  const end = Math.max(1, Math.ceil(most / step)) * step;
  return Array.from({ length: end / step + 1 }, (_, n) => n * step);
}

function* steps(): Generator<number> {
  for (let ten = 1; ; ten *= 10) yield* [ten, 2 * ten, 5 * ten];
}

/** Powers of ten around all values. */
export function powerTicks(values: readonly number[]): number[] {
  if (!values.length) return [0.001, 0.01, 0.1, 1];
  const low = Math.floor(Math.log10(Math.max(1e-6, Math.min(...values))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(1e-6, ...values))));
  return Array.from({ length: high - low + 1 }, (_, n) => 10 ** (low + n));
}

export interface Point {
  x: number;
  y: number;
}

/** The parts of a line that have values: nothing is drawn across a gap. */
export function segments(points: readonly { x: number; y: number | null }[]): Point[][] {
  const found: Point[][] = [[]];
  for (const { x, y } of points) {
    if (y === null) found.push([]);
    else found.at(-1)!.push({ x, y });
  }
  return found.filter((segment) => segment.length > 0);
}

/** An SVG path through points. A single point is drawn too. */
export function path(points: readonly Point[]): string {
  const line = points.map(({ x, y }, n) => `${n ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  return points.length > 1 ? line : `${line}h0.1`;
}
