// The adapters: all of them in one table, of which only the part in sight is read.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { link, remember } from "../lib/address.ts";
import { isPlatform, may } from "../lib/caller.ts";
import { useAnswer, useEvents, useInterval } from "../lib/hooks.ts";
import type { PageProps } from "../lib/page.ts";
import { VirtualTable } from "../lib/virtual-table.tsx";
import { request } from "../lib/api.ts";
import { ALWAYS, COLUMNS, forReader, USUAL, withResidents } from "./columns.tsx";
import { Filters, searchOf, valuesOf } from "./filters.tsx";
import { isLive, useOverview, type Search, type Sort } from "./overview.ts";
import { readResidents, type Residents } from "./residents.ts";

const TYPING_MS = 150;
const RESIDENTS_MS = 3000;
const NONE: Residents = new Map();
const KEPT = "adaptry.columns";

export function AdaptersPage({ query, signal, onLinkState }: PageProps) {
  const [search, setSearch] = useState(() => searchOf(query, may("operate")));
  const [columns, setColumns] = useState(() => columnsOf(query));
  const first = useRef(Number(query.get("at")) || 0);
  const [residents, readAgain] = useAnswer("Cache", async (signal) => (may("operate") ? readResidents(signal) : null));
  const [bases] = useAnswer("Base models", async (signal) => (may("operate") && isPlatform() ? request("get", "/api/v1/bases", { signal }) : null));
  const table = useOverview(search);
  useInterval(RESIDENTS_MS, () => Promise.all([readAgain(), isLive(search) && !isPointedAt() && table.refresh()]));
  useEvents({}, signal, onLinkState, table.refresh);
  const save = useCallback(() => {
    const at = first.current ? String(first.current) : "";
    const cols = columns.join() === USUAL.join() ? "" : columns.join();
    if (!signal.aborted) remember("/adapters", { ...valuesOf(search), cols, at });
  }, [search, columns]);
  useEffect(save, [save]);
  const change = useChange(setSearch, first);
  const timer = useRef(0);
  const onFirst = (row: number) => {
    first.current = row;
    clearTimeout(timer.current);
    timer.current = window.setTimeout(save, TYPING_MS);
  };
  useEffect(() => () => (clearTimeout(timer.current), save()), [save]);
  const onSort = (sort: string) =>
    change({ sort: sort as Sort, descending: search.sort === sort && !search.descending }, true);
  const shown = COLUMNS.filter(({ id }) => columns.includes(id)).map((each) => (may("operate") ? each : forReader(each)));
  return (
    <>
      <div class="page-head">
        <h1>Adapters</h1>
        <p class="faint" role="status">
          {table.total === null ? "" : counted(table.total)}
        </p>
        <p class="row end-of-line">
          <ColumnChoice chosen={columns} onChange={setColumns} />
          <a href="#/versions">Search versions</a>
          {may("publish") && <a href="#/publish">Publish</a>}
        </p>
      </div>
      <Filters search={search} bases={bases?.items.map(({ name }) => name) ?? []} hasCache={residents !== null} onChange={change} />
      {table.total === 0 ? (
        <Nothing search={search} />
      ) : (
        <VirtualTable
          key={JSON.stringify(search)}
          label="Adapters"
          columns={shown}
          total={table.total ?? 0}
          row={(index) => withResidents(table.row(index), residents ?? NONE)}
          sort={search.sort}
          descending={search.descending}
          onSort={onSort}
          onRange={table.onRange}
          first={first.current}
          onFirst={onFirst}
        />
      )}
    </>
  );
}

/** Rows that the cache orders stay where they are while the pointer is on one. */
function isPointedAt(): boolean {
  return document.querySelector(".virtual:hover") !== null;
}

/** Changes of the search: those that are typed wait for the next key. */
function useChange(setSearch: (change: (search: Search) => Search) => void, first: { current: number }) {
  const timer = useRef(0);
  const pending = useRef<Partial<Search>>({});
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback((changed: Partial<Search>, immediately = false) => {
    pending.current = { ...pending.current, ...changed };
    const apply = () => {
      const all = pending.current;
      pending.current = {};
      first.current = 0;
      setSearch((search) => ({ ...search, ...all }));
    };
    clearTimeout(timer.current);
    if (immediately) apply();
    else timer.current = window.setTimeout(apply, TYPING_MS);
  }, []);
}

function columnsOf(query: URLSearchParams): string[] {
  const known = new Set(COLUMNS.map(({ id }) => id));
  const asked = query.get("cols") ?? localStorage.getItem(KEPT) ?? "";
  const found = asked.split(",").filter((id) => known.has(id));
  return found.length ? found : USUAL;
}

function ColumnChoice({ chosen, onChange }: { chosen: string[]; onChange: (ids: string[]) => void }) {
  const toggle = (id: string) => {
    const others = chosen.filter((each) => each !== id);
    const next = others.length < chosen.length ? others : [...chosen, id];
    localStorage.setItem(KEPT, next.join());
    onChange(next);
  };
  const [isOpen, setOpen] = useState(false);
  return (
    <details class="menu" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Columns</summary>
      <fieldset hidden={!isOpen}>
        <legend class="unseen">Columns</legend>
        {isOpen && COLUMNS.map(({ id, title }) => (
          <label key={id} class="check">
            <input type="checkbox" checked={chosen.includes(id)} disabled={id === ALWAYS} onChange={() => toggle(id)} />
            <span>{title}</span>
          </label>
        ))}
      </fieldset>
    </details>
  );
}

function counted(total: number): string {
  return `${total.toLocaleString("en")} adapter${total === 1 ? "" : "s"}`;
}

function Nothing({ search }: { search: Search }) {
  const isFiltered = Object.keys(valuesOf(search)).some((name) => name !== "sort" && valuesOf(search)[name]?.length);
  if (isFiltered) {
    return (
      <p class="faint">
        No adapters match. <a href={link("/adapters")}>Show all</a>
      </p>
    );
  }
  return (
    <p class="faint">
      Nothing is registered yet.
      {may("publish") && (
        <>
          {" "}
          <a href="#/publish">Publish the first adapter</a>, or use <code>adaptry adapter push NAME FOLDER</code>.
        </>
      )}
    </p>
  );
}
