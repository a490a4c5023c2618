// One event: when, what, of which adapter, by whom and why.

import { adapterLink } from "../lib/address.ts";
import type { Schema } from "../lib/api.ts";
import { Time } from "../lib/time.tsx";

type Event = Schema["EventRead"];

export function EventItem({ event, isFresh }: { event: Event; isFresh: boolean }) {
  const { adapter, address, imported, reason } = event;
  const hasData = Object.keys(event.data).length > 0;
  return (
    <li class={isFresh ? "event fresh" : "event"} data-event={event.id}>
      <Time at={event.at} short />
      <span class="word">{event.kind}</span>
      <span class="sentence">
        {adapter && (
          <a class="ref" href={adapterLink(adapter)}>
            {adapter}
          </a>
        )}{" "}
        {what(event)}
      </span>
      <span class="who">
        by <b>{event.actor}</b>
        {address && ` from ${address}`}
        {imported && ", imported"}
      </span>
      {reason && <q class="reason">{reason}</q>}
      {hasData && (
        <details>
          <summary>data</summary>
          <pre>{JSON.stringify(event.data, null, 2)}</pre>
        </details>
      )}
    </li>
  );
}

/** The event as one line of text. */
export function sentenceOf(event: Event): string {
  return `${event.adapter ?? ""} ${what(event)}, by ${event.actor}`.trim();
}

/** Without the adapter's name, which precedes it. */
function what({ kind, alias, from_version: from, to_version: to, data }: Event): string {
  if (kind.startsWith("name.")) return [data.name, alias && `@${alias}`, to && `version ${to}`].filter(Boolean).join(" → ");
  if (kind === "alias.moved") return `@${alias}: ${from ?? "nothing"} → ${to}`;
  if (alias) return `@${alias}${to ? ` → ${to}` : ""}`;
  if (to) return `version ${to}`;
  return from ? `version ${from}` : "";
}
