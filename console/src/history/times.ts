// Times of the history page: steps, what the address holds, and what a time field shows.

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const SOON_MS = 150; // a slider that is dragged asks only where it rests

/** Whole seconds: `2026-11-30T02:50:00Z`. */
export function iso(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`;
}

/** A time in the address; null if it is none. */
export function parse(text: string | null): number | null {
  const at = Date.parse(text ?? "");
  return Number.isNaN(at) ? null : at;
}

/** As an input of the browser's local time has it. */
export function local(at: number): string {
  const shifted = new Date(at - new Date(at).getTimezoneOffset() * MINUTE);
  return shifted.toISOString().slice(0, 19);
}

export function clamp(at: number, since: number, until: number): number {
  return Math.floor(Math.min(Math.max(at, since), until) / SECOND) * SECOND;
}

const STEPS: Record<string, readonly [number, number]> = {
  ArrowLeft: [-10 * SECOND, -10 * MINUTE],
  ArrowDown: [-10 * SECOND, -10 * MINUTE],
  ArrowRight: [10 * SECOND, 10 * MINUTE],
  ArrowUp: [10 * SECOND, 10 * MINUTE],
  PageDown: [-HOUR, -HOUR],
  PageUp: [HOUR, HOUR],
};

/** How far a key moves the slider; null for a key that doesn't. */
export function stepOf(key: string, shift: boolean): number | null {
  return STEPS[key]?.[shift ? 1 : 0] ?? null;
}
