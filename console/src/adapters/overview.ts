// Rows of the adapters table: blocks of the overview as they come into sight, and the cache's view.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { request, type Schema } from "../lib/api.ts";
import { readNamed } from "./named.ts";
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

interface Table {
  total: number | null;
  row: (index: number) => Row | undefined;
  onRange: (first: number, last: number) => void;
  /** Asks for the rows in sight again. */
  refresh: () => Promise<void>;
}

/** `names`: only these adapters; null: all, undefined: not known yet. */
export function useOverview(search: Search, names: readonly string[] | null | undefined): Table {
  const blocks = useRef(new Map<number, Row[]>());
  const asked = useRef(new Set<number>());
  const range = useRef<[number, number]>([0, 0]);
  const [total, setTotal] = useState<number | null>(null);
  const [, redraw] = useState(0);
  const what = JSON.stringify([search, names]);
  const current = useRef(what);

  const read = useCallback(
    async (block: number) => {
      if (names === undefined || asked.current.has(block)) return;
      if (names?.length === 0) return setTotal(0);
      asked.current.add(block);
      try {
        const page = names ? await readAll(search, names, block) : await readBlock(search, block);
        if (current.current !== what) return;
        clearProblem("Adapters");
        blocks.current.set(block, page.items);
        setTotal(page.total);
        redraw((n) => n + 1);
      } catch (error) {
        if (current.current === what) showProblem(error as Error, "Adapters");
      } finally {
        asked.current.delete(block);
      }
    },
    [what],
  );
  const onRange = useCallback(
    (first: number, last: number) => {
      range.current = [first, last];
      for (const block of blocksOf(first, last)) if (!blocks.current.has(block)) void read(block);
    },
    [read],
  );
  const refresh = useCallback(async () => {
    const seen = new Set(blocksOf(...range.current));
    for (const block of blocks.current.keys()) if (!seen.has(block)) blocks.current.delete(block);
    await Promise.all([...seen].map(read));
  }, [read]);
  useEffect(() => {
    current.current = what;
    blocks.current.clear();
    asked.current.clear();
    void read(Math.floor(range.current[0] / BLOCK));
  }, [what]);
  const row = (index: number) => blocks.current.get(Math.floor(index / BLOCK))?.[index % BLOCK];
  return useMemo(() => ({ total, row, onRange, refresh }), [total, onRange, refresh, row]);
}

function blocksOf(first: number, last: number): number[] {
  const from = Math.floor(first / BLOCK);
  const until = Math.floor(Math.max(first, last - 1) / BLOCK);
  return Array.from({ length: until - from + 1 }, (_, n) => from + n);
}

function readBlock(search: Search, block: number) {
  const query = { ...queryOf(search), offset: block * BLOCK, limit: BLOCK };
  return request("get", "/api/v1/overview", { query });
}

async function readAll(search: Search, names: readonly string[], block: number) {
  const rows = await readNamed(queryOf(search), names);
  return { items: rows.slice(block * BLOCK, (block + 1) * BLOCK), total: rows.length };
}

export type OverviewQuery = ReturnType<typeof queryOf>;

function queryOf(search: Search) {
  const { sort, descending, memory, ...filters } = search;
  const given: { [name in keyof typeof filters]?: (typeof filters)[name] } = Object.fromEntries(
    Object.entries(filters).filter(([, value]) => value.length),
  );
  return { ...given, state: given.state as Schema["VersionState"] | undefined, sort, descending };
}
