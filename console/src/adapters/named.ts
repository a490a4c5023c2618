// Rows of named adapters: read in a few requests of short addresses, and put in order here.

import { request } from "../lib/api.ts";
import type { OverviewQuery, Row, Sort } from "./overview.ts";

const MOST_NAMES = 100; // of one request, whose answer has as many rows
const MOST_CHARACTERS = 3000; // of their names in one address: proxies refuse longer ones

/** All that match, sorted as the server sorts. */
export async function readNamed(query: OverviewQuery, names: readonly string[], signal?: AbortSignal): Promise<Row[]> {
  const { sort = "name", descending = false } = query;
  const found: Row[] = [];
  for (const name of groups(names)) {
    const page = await request("get", "/api/v1/overview", { query: { ...query, name, offset: 0, limit: MOST_NAMES }, signal });
    found.push(...page.items);
  }
  return sorted(found, sort, descending);
}

/** In their order, few and short enough for one request each. */
export function groups(names: readonly string[]): string[][] {
  const found: string[][] = [];
  let left = 0;
  for (const name of names) {
    const length = encodeURIComponent(name).length + "&name=".length;
    if (!found.length || length > left || found.at(-1)!.length === MOST_NAMES) {
      found.push([]);
      left = MOST_CHARACTERS;
    }
    found.at(-1)!.push(name);
    left -= length;
  }
  return found;
}

const KEYS: Record<Sort, (row: Row) => string | number | null> = {
  name: ({ name }) => name,
  created: ({ created_at: at }) => Date.parse(at),
  owner: ({ owner }) => owner,
  version: ofDefault("version"),
  state: ofDefault("state"),
  rank: ofDefault("rank"),
  size: ofDefault("size_bytes"),
};

/** Of an adapter without a default version, the newest one is shown, but not sorted by. */
function ofDefault(value: "version" | "state" | "rank" | "size_bytes") {
  return (row: Row) => ("default" in row.aliases ? row[value] : null);
}

/** Rows without a value come last; those with the same are in the order of their names. */
export function sorted(rows: readonly Row[], sort: Sort, descending: boolean): Row[] {
  const key = KEYS[sort];
  const sign = descending ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if ((a === null) !== (b === null)) return a === null ? 1 : -1;
    return (a === b ? 0 : sign * (a! < b! ? -1 : 1)) || (one.name < other.name ? -1 : 1);
  });
}
