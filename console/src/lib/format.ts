// Formats of numbers and times. Units are always shown.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** What a purge freed, and what the store has yet to delete. */
export function freed(purge: { freed_bytes: number; pending_bytes: number }): string {
  const { freed_bytes: now, pending_bytes: later } = purge;
  if (later === 0) return `${bytes(now)} free`;
  return now === 0 ? `${bytes(later)} free later, once the store has deleted them` : `${bytes(now)} free, and ${bytes(later)} later`;
}

/** How long something has been idle: whole seconds, as it is polled only so often. */
export function idle(value: number): string {
  return value < 120 ? `${Math.floor(value)} s` : seconds(value);
}

export function seconds(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 0.1) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(2)} s`;
  return value < 120 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`;
}

/** A power of ten of a second: `10 ms`. */
export function power(value: number): string {
  const exponent = Math.round(Math.log10(value));
  if (exponent >= 0) return `${10 ** exponent} s`;
  return exponent >= -3 ? `${10 ** (exponent + 3)} ms` : `${10 ** (exponent + 6)} µs`;
}

export function percent(ratio: number | null): string {
  return ratio === null ? "–" : `${Math.round(ratio * 100)} %`;
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}

const two = (number: number) => String(number).padStart(2, "0");

/** `14:05:07`, in the viewer's time zone. */
export function clock(at: string | number): string {
  const time = new Date(at);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(":");
}

/** `2026-11-25 14:05:07`, in the viewer's time zone. */
export function moment(at: string | null | undefined): string {
  if (!at) return "–";
  const time = new Date(at);
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${clock(at)}`;
}

/** The adapter of a reference: `upper` of `upper:3` and `upper@prod`. */
export function adapterOf(reference: string): string {
  return reference.split(/[:@]/, 1)[0]!;
}
