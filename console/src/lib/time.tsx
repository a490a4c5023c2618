// Times: in the viewer's time zone, which is named; UTC is on hover.

import { clock, moment } from "./format.ts";

/** `UTC+1`, or the zone's own abbreviation. */
export function zone(at: Date = new Date()): string {
  const parts = new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts(at);
  return parts.find(({ type }) => type === "timeZoneName")?.value.replace("GMT", "UTC") ?? "UTC";
}

export function utc(at: string | number): string {
  return `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** `2026-11-25 14:05:07 UTC+1`; `short` leaves the zone to a heading. */
export function Time({ at, short = false }: { at: string | null | undefined; short?: boolean }) {
  if (!at) return <>–</>;
  return (
    <time dateTime={at} title={utc(at)}>
      {moment(at)}
      {short ? "" : ` ${zone(new Date(at))}`}
    </time>
  );
}

export function Clock({ at }: { at: string }) {
  return (
    <time dateTime={at} title={utc(at)}>
      {clock(at)}
    </time>
  );
}
