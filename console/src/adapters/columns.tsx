// Columns of the adapters table.

import type { ComponentChildren } from "preact";
import { adapterLink, link } from "../lib/address.ts";
import { Time, zone } from "../lib/time.tsx";
import type { Column } from "../lib/virtual-table.tsx";
import { bytes, idle } from "../lib/format.ts";
import { OF_CACHE, type Row } from "./overview.ts";
import { hits, type Resident, type Residents } from "./residents.ts";

export interface Shown {
  row: Row;
  resident: Resident | undefined;
}

export const ALWAYS = "name";
export const USUAL = ["name", "version", "state", "memory", "hits", "rank", "size", "owner", "tags"];

export const COLUMNS: readonly Column<Shown>[] = [
  { id: "name", title: "Adapter", sort: "name", cell: ({ row }) => <Name row={row} /> },
  { id: "version", title: "Version", sort: "version", cell: ({ row }) => row.version },
  { id: "aliases", title: "Aliases", sort: "aliases", cell: ({ row }) => <Aliases of={row} /> },
  { id: "state", title: "State", sort: "state", cell: ({ row }) => row.state && <State of={row.state} /> },
  { id: "memory", title: "In memory", sort: "memory", cell: ({ resident }) => memory(resident) },
  { id: "asked", title: "Last asked", sort: "asked", cell: ({ resident }) => asked(resident) },
  { id: "hits", title: "Hit ratio", sort: "hits", cell: ({ resident }) => resident && <Hits of={resident} /> },
  { id: "rank", title: "Rank", sort: "rank", cell: ({ row }) => row.rank },
  { id: "size", title: "Size", sort: "size", cell: ({ row }) => row.size_bytes && bytes(row.size_bytes) },
  { id: "versions", title: "Versions", sort: "versions", cell: ({ row }) => row.versions },
  { id: "owner", title: "Owner", sort: "owner", cell: ({ row }) => row.owner },
  { id: "tags", title: "Tags", sort: "tags", cell: ({ row }) => <Tags of={[...row.tags, ...row.version_tags]} /> },
  { id: "description", title: "Description", sort: "description", cell: ({ row }) => row.description },
  {
    id: "created",
    title: `Registered (${zone()})`,
    sort: "created",
    cell: ({ row }) => <Time at={row.created_at} short />,
  },
];

/** For who may not read the cache: its columns are empty, and the server refuses to sort by them. */
export function forReader(column: Column<Shown>): Column<Shown> {
  return OF_CACHE.includes(column.id) ? { ...column, sort: undefined } : column;
}

function Name({ row }: { row: Row }) {
  return (
    <a class="ref" href={adapterLink(row.name)}>
      {row.name}
    </a>
  );
}

export function State({ of }: { of: string }) {
  return (
    <span class="state" data-state={of}>
      {of}
    </span>
  );
}

function Aliases({ of }: { of: Row }): ComponentChildren {
  return Object.entries(of.aliases).map(([alias, version]) => (
    <span key={alias} class="tag alias">
      @{alias} {version}
    </span>
  ));
}

function Tags({ of }: { of: readonly string[] }): ComponentChildren {
  return [...new Set(of)].map((tag) => (
    <a key={tag} class="tag" href={link("/adapters", { tag })}>
      {tag}
    </a>
  ));
}

function memory(resident: Resident | undefined): string {
  if (!resident?.places.length) return "";
  return resident.places.join(", ") + (resident.pinned ? ", pinned" : "");
}

function asked(resident: Resident | undefined): string {
  if (!resident) return "";
  if (resident.leases) return "now";
  return resident.idleSeconds === null ? "" : `${idle(resident.idleSeconds)} ago`;
}

/** The share of its last lookups that found it in memory, and each of them as a bar. */
function Hits({ of }: { of: Resident }) {
  const { text, last } = hits(of.lookups);
  if (!text) return null;
  return (
    <span class="hits">
      {text}
      <svg viewBox={`0 0 ${last.length * 3} 14`} width={last.length * 3} height={14} aria-hidden="true">
        {last.map((tier, n) => (
          <rect key={n} class={`bar-${["miss", "host_hit", "gpu_hit"][tier]}`} x={n * 3} y={10 - 5 * tier} width={2} height={4 + 5 * tier} />
        ))}
      </svg>
    </span>
  );
}

export function withResidents(row: Row | undefined, residents: Residents): Shown | undefined {
  return row && { row, resident: residents.get(row.name) };
}
