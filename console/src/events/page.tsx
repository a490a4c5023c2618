// The event log: who changed what and why, live and back to the beginning.

import { useMemo, useRef, useState } from "preact/hooks";
import { remember } from "../lib/address.ts";
import { Field } from "../lib/form.tsx";
import { useLater } from "../lib/hooks.ts";
import { KINDS } from "../lib/kinds.ts";
import type { PageProps } from "../lib/page.ts";
import { Act } from "../lib/parts.tsx";
import { zone } from "../lib/time.tsx";
import { EventItem } from "./event.tsx";
import { useLog, type Filters } from "./log.ts";

const TYPING_MS = 300;

export function EventsPage({ query, signal, onLinkState }: PageProps) {
  const [given, setGiven] = useState<Filters>(() => filtersOf((name) => query.get(name)));
  remember("/events", { ...given });
  const filters = useMemo(() => ({ ...given, since: instantOf(given.since) }), [given]);
  return (
    <>
      <div class="page-head">
        <h1>Events</h1>
        <p class="faint">Times in {zone()}</p>
      </div>
      <FilterForm first={given} onChange={setGiven} />
      <Log key={JSON.stringify(filters)} filters={filters} signal={signal} onLinkState={onLinkState} />
    </>
  );
}

function filtersOf(given: (name: string) => unknown): Filters {
  const value = (name: string) => String(given(name) ?? "").trim();
  return { adapter: value("adapter"), kind: value("kind"), actor: value("actor"), since: value("since") };
}

/** Of a time in the browser's zone; empty if it is none, as in an address that was typed. */
function instantOf(text: string): string {
  const at = Date.parse(text);
  return Number.isNaN(at) ? "" : new Date(at).toISOString();
}

function FilterForm({ first, onChange }: { first: Filters; onChange: (filters: Filters) => void }) {
  const form = useRef<HTMLFormElement>(null);
  const changed = useLater(TYPING_MS, () => {
    const given = new FormData(form.current!);
    onChange(filtersOf((name) => given.get(name)));
  });
  return (
    <form class="filters" role="search" aria-label="Events" ref={form} onInput={changed} onSubmit={(event) => event.preventDefault()}>
      <Field label="Adapter">
        <input name="adapter" spellcheck={false} maxLength={64} defaultValue={first.adapter} />
      </Field>
      <Field label="Kind">
        <select name="kind" defaultValue={first.kind}>
          <option value="">any</option>
          {KINDS.map((kind) => (
            <option key={kind}>{kind}</option>
          ))}
        </select>
      </Field>
      <Field label="By">
        <input name="actor" spellcheck={false} defaultValue={first.actor} />
      </Field>
      <Field label="Since">
        <input name="since" type="datetime-local" defaultValue={first.since} />
      </Field>
    </form>
  );
}

interface LogProps extends Pick<PageProps, "signal" | "onLinkState"> {
  filters: Filters;
}

function Log({ filters, signal, onLinkState }: LogProps) {
  const { events, freshest, readOlder, end } = useLog(filters, signal, onLinkState);
  return (
    <>
      <ol class="events" aria-label="Events, newest first">
        {events.map((event) => (
          <EventItem key={event.id} event={event} isFresh={event.id > freshest} />
        ))}
      </ol>
      {readOlder ? <Act label="Show older" action={readOlder} /> : <p class="faint">{end}</p>}
    </>
  );
}
