// Both tiers: residents in eviction order.

import type { ComponentChildren, RefObject } from "preact";
import { bytes } from "../lib/format.ts";
import { bySlot, down, hostVictims, idOf, inHost, marksOf, onTheirWay, slotsInUse, slotVictims, type Cache, type Cell, type Victims } from "./cells.ts";
import { useSlides } from "./motion.ts";

type Flow = { in: number; out: number };

interface Choice {
  selected: string | null;
  onSelect: (reference: string) => void;
}

interface Props extends Choice {
  cache: Cache;
  /** How many entered and left each tier in the last minute. */
  flow: { gpu: Flow; host: Flow };
  place: RefObject<HTMLElement | null>;
}

export function Tiers({ cache, flow, place, ...choice }: Props) {
  return (
    <section class="tiers" aria-label="Both tiers" ref={place}>
      <Down text={down(cache)} />
      <Tier title="GPU slots" summary={slotsInUse(cache)} cells={bySlot(cache)} victims={slotVictims(cache)} {...choice} />
      <Moves below="host memory" above="slots" of={flow.gpu} />
      <Tier
        title="Host memory"
        summary={hostInUse(cache)}
        cells={inHost(cache)}
        victims={hostVictims(cache)}
        inSlots={new Set(cache.gpu.map(idOf))}
        {...choice}
      >
        <Strip cache={cache} />
      </Tier>
      <Moves below="disk" above="host memory" of={flow.host} />
      <OnTheirWay cache={cache} />
    </section>
  );
}

/** Its places are no room: requests go to the others, if there are any. */
function Down({ text }: { text: string | null }) {
  return <div role="status">{text !== null && <p class="thrash">{text}</p>}</div>;
}

function hostInUse(cache: Cache): string {
  const limit = cache.host_bytes_limit ? ` of ${bytes(cache.host_bytes_limit)}` : "";
  const taken = cache.host.length + (cache.hidden.host ?? 0);
  return `${taken} of ${cache.host_capacity} places · ${bytes(cache.host_bytes)}${limit}`;
}

interface TierProps extends Choice {
  title: string;
  summary: string;
  cells: readonly Cell[];
  victims: Victims;
  /** Ids of those that are in a slot too; of the host tier only. */
  inSlots?: ReadonlySet<string>;
  children?: ComponentChildren;
}

function Tier({ title, summary, cells, children, ...shared }: TierProps) {
  const list = useSlides();
  return (
    <div class="tier">
      <header>
        <h2>{title}</h2>
        <span class="faint">{summary}</span>
        {children}
      </header>
      <ul class="cells" aria-label={title} ref={list}>
        {cells.map((cell) =>
          cell.resident ? (
            <Occupied key={cell.id} id={cell.id} resident={cell.resident} {...shared} />
          ) : (
            <li key={cell.id} class="cell free" data-key={cell.id}>
              <span>{cell.blank}</span>
            </li>
          ),
        )}
      </ul>
    </div>
  );
}

interface OccupiedProps extends Omit<TierProps, "title" | "summary" | "cells" | "children"> {
  id: string;
  resident: NonNullable<Cell["resident"]>;
}

function Occupied({ id, resident, victims, inSlots, selected, onSelect }: OccupiedProps) {
  const marks = marksOf(resident, victims.get(id), inSlots?.has(id) ?? false);
  const slot = !inSlots && resident.slot !== null ? `slot ${resident.slot} · ` : "";
  const where = resident.replica ? `${resident.replica} · ` : "";
  return (
    <li class={["cell", ...marks.map(([name]) => name)].join(" ")} data-key={id}>
      <button type="button" aria-pressed={resident.reference === selected} onClick={() => onSelect(resident.reference)}>
        <span class="ref">{resident.reference}</span>
        <span class="size">
          {where}
          {slot}r{resident.rank} · {bytes(resident.host_bytes)}
        </span>
        <span class="marks">
          {marks.map(([name, text]) => (
            <span key={name} class={`mark-${name}`}>
              {text}
            </span>
          ))}
        </span>
      </button>
    </li>
  );
}

/** Host memory as one line: each adapter as wide as its bytes. */
function Strip({ cache }: { cache: Cache }) {
  const whole = cache.host_bytes_limit ?? cache.host_bytes;
  return (
    <div class="strip" aria-hidden="true">
      {cache.host.map((each) => (
        <span
          key={idOf(each)}
          class={each.pinned ? "pinned" : ""}
          title={`${each.reference}${each.replica ? ` on ${each.replica}` : ""}: ${bytes(each.host_bytes)}`}
          style={{ "--share": `${(100 * each.host_bytes) / (whole || 1)}%` }}
        />
      ))}
    </div>
  );
}

/** Loads and evictions between two tiers within the last minute. */
function Moves({ below, above, of: { in: loaded, out: evicted } }: { below: string; above: string; of: Flow }) {
  return (
    <p class="flow">
      <span class="up">{`↑ ${loaded} ${below} → ${above}`}</span>
      <span class="down">{`↓ ${evicted} evicted`}</span>
      <span class="faint">last minute</span>
    </p>
  );
}

function OnTheirWay({ cache }: { cache: Cache }) {
  const all = onTheirWay(cache);
  return (
    <div class="loading" role="status">
      {all.map(({ key, text }) => (
        <span key={key} class="on-its-way">
          {text}
        </span>
      ))}
      {!all.length && <span class="faint">Nothing is loading, and no request waits.</span>}
    </div>
  );
}
