// Rows of the adapters table: blocks of the overview as they come into sight.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { request, type Schema } from "../lib/api.ts";
import { clearProblem, showProblem } from "../lib/notices.tsx";

export const BLOCK = 100;
export type Row = Schema["OverviewItem"];
export type Sort = Schema["AdapterSort"];

export interface Search {
  text: string;
  tag: string[];
  owner: string;
  base: string;
  state: string;
  tenant: string;
  memory: "" | "in" | "pinned";
  sort: Sort;
  descending: boolean;
}

/** What only the cache knows: its order is kept by the server, and read anew from time to time. */
export const OF_CACHE: readonly string[] = ["memory", "asked", "hits"];

export function isLive(search: Search): boolean {
  return OF_CACHE.includes(search.sort) || search.memory !== "";
}

interface Table {
  total: number | null;
  row: (index: number) => Row | undefined;
  onRange: (first: number, last: number) => void;
  /** Asks for the rows in sight again. */
  refresh: () => Promise<void>;
}

export function useOverview(search: Search): Table {
  const blocks = useRef(new Map<number, Row[]>());
  const asked = useRef(new Map<number, Promise<void>>());
  const range = useRef<[number, number]>([0, 0]);
  const order = useRef<string | null>(null); // that of all blocks, where only the cache knows it
  const [total, setTotal] = useState<number | null>(null);
  const [, redraw] = useState(0);
  const what = JSON.stringify(search);
  const missing = () => blocksOf(...range.current).filter((block) => !blocks.current.has(block));
  const current = useRef(what);

  /** Whether those that were there have gone, as their order had. */
  const fetchBlock = useCallback(
    async (block: number): Promise<boolean> => {
      const asOf = order.current;
      try {
        const page = await readBlock(search, block, asOf);
        if (current.current !== what) return false;
        if (asOf !== order.current) return await fetchBlock(block); // the others are in another order by now
        clearProblem("Adapters");
        const found = page.as_of ?? null;
        if (found !== asOf) blocks.current.clear(); // their order is not kept any more
        order.current = found;
        blocks.current.set(block, page.items);
        setTotal(page.total);
        redraw((n) => n + 1);
        return asOf !== null && found !== asOf;
      } catch (error) {
        if (current.current === what) showProblem(error as Error, "Adapters");
        return false;
      }
    },
    [what],
  );
  const read = useCallback(
    (block: number, isAgain = false): Promise<void> => {
      const before = asked.current.get(block);
      if (before) return before;
      // without an order yet, one answer brings it before the others are asked for
      const first = order.current === null && OF_CACHE.includes(search.sort) ? [...asked.current.values()][0] : undefined;
      const answer = (async () => {
        await first;
        if (!(await fetchBlock(block)) || isAgain) return; // once: a server may keep no order at all
        for (const each of missing()) void read(each, true);
      })().finally(() => asked.current.get(block) === answer && asked.current.delete(block));
      asked.current.set(block, answer);
      return answer;
    },
    [fetchBlock],
  );
  const onRange = useCallback(
    (first: number, last: number) => {
      range.current = [first, last];
      for (const block of missing()) void read(block);
    },
    [read],
  );
  const refresh = useCallback(async () => {
    const seen = new Set(blocksOf(...range.current));
    for (const block of blocks.current.keys()) if (!seen.has(block)) blocks.current.delete(block);
    await Promise.all(asked.current.values());
    order.current = null;
    await Promise.all([...seen].map((block) => read(block)));
  }, [read]);
  useEffect(() => {
    current.current = what;
    blocks.current.clear();
    asked.current.clear();
    order.current = null;
    void read(Math.floor(range.current[0] / BLOCK));
    return () => {
      current.current = ""; // what was asked without a key must not ask for one after the sign-in
    };
  }, [what]);
  const row = (index: number) => blocks.current.get(Math.floor(index / BLOCK))?.[index % BLOCK];
  return useMemo(() => ({ total, row, onRange, refresh }), [total, onRange, refresh, row]);
}

function blocksOf(first: number, last: number): number[] {
  const from = Math.floor(first / BLOCK);
  const until = Math.floor(Math.max(first, last - 1) / BLOCK);
  return Array.from({ length: until - from + 1 }, (_, n) => from + n);
}

function readBlock(search: Search, block: number, asOf: string | null) {
  const { sort, descending, ...filters } = search;
  const given: { [name in keyof typeof filters]?: (typeof filters)[name] } = Object.fromEntries(
    Object.entries(filters).filter(([, value]) => value.length),
  );
  const state = given.state as Schema["VersionState"] | undefined;
  const memory = search.memory || undefined;
  const query = { ...given, state, memory, sort, descending, as_of: asOf ?? undefined };
  return request("get", "/api/v1/overview", { query: { ...query, offset: block * BLOCK, limit: BLOCK } });
}
