// Table of any length: only the rows in sight are elements, and only their blocks are asked for.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

const BEYOND = 12; // rows that are drawn above and below those in sight

export interface Column<Row> {
  id: string;
  title: string;
  sort?: string | undefined;
  cell: (row: Row) => ComponentChildren;
}

interface Props<Row> {
  label: string;
  columns: readonly Column<Row>[];
  total: number;
  row: (index: number) => Row | undefined;
  sort: string;
  descending: boolean;
  onSort: (sort: string) => void;
  onRange: (first: number, last: number) => void;
  /** The row to begin with, and where the table is now. */
  first: number;
  onFirst: (first: number) => void;
}

const narrow = matchMedia("(max-width: 700px)");

export function VirtualTable<Row>(props: Props<Row>) {
  const { label, columns, total, first, onRange, onFirst } = props;
  const height = useRowHeight();
  const region = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ first, last: first + 40 });
  const placed = useRef(false);
  const look = () => {
    const element = region.current;
    if (!element) return;
    const from = Math.floor(element.scrollTop / height);
    const until = Math.ceil((element.scrollTop + element.clientHeight) / height);
    setSeen({ first: from, last: until });
    if (placed.current) onFirst(from);
  };
  useLayoutEffect(() => {
    if (placed.current || total === 0 || !region.current) return;
    region.current.scrollTop = first * height;
    placed.current = true;
    look();
  }, [total]);
  useEffect(() => {
    addEventListener("resize", look);
    return () => removeEventListener("resize", look);
  }, [height]);
  const from = Math.max(0, Math.min(seen.first, total) - BEYOND);
  const until = Math.min(total, seen.last + BEYOND);
  useEffect(() => onRange(from, until), [from, until, onRange]);
  const drawn = Array.from({ length: Math.max(0, until - from) }, (_, n) => from + n);
  return (
    <div class="virtual" ref={region} onScroll={look} tabIndex={0} role="region" aria-label={label}>
      <table role="table" aria-rowcount={total + 1}>
        <caption class="unseen">{label}</caption>
        <Head {...props} />
        <tbody role="rowgroup">
          <Space rows={from} height={height} columns={columns.length} />
          {drawn.map((index) => (
            <Line key={index} index={index} columns={columns} row={props.row(index)} />
          ))}
          <Space rows={total - until} height={height} columns={columns.length} />
        </tbody>
      </table>
    </div>
  );
}

function useRowHeight(): number {
  const [isNarrow, setNarrow] = useState(narrow.matches);
  useEffect(() => {
    const change = () => setNarrow(narrow.matches);
    narrow.addEventListener("change", change);
    return () => narrow.removeEventListener("change", change);
  }, []);
  return isNarrow ? 64 : 36; // as the stylesheet has them
}

function Head<Row>({ columns, sort, descending, onSort }: Props<Row>) {
  return (
    <thead role="rowgroup">
      <tr role="row" aria-rowindex={1}>
        {columns.map((column) => {
          const isSorted = column.sort === sort;
          const order = isSorted ? (descending ? "descending" : "ascending") : undefined;
          return (
            <th key={column.id} role="columnheader" scope="col" data-column={column.id} aria-sort={order}>
              {column.sort ? (
                <button type="button" class="sort" onClick={() => onSort(column.sort!)}>
                  {column.title}
                  <span aria-hidden="true">{isSorted ? (descending ? " ↓" : " ↑") : ""}</span>
                </button>
              ) : (
                column.title
              )}
            </th>
          );
        })}
      </tr>
    </thead>
  );
}

function Line<Row>(props: { index: number; columns: readonly Column<Row>[]; row: Row | undefined }) {
  const { index, columns, row } = props;
  return (
    <tr role="row" aria-rowindex={index + 2}>
      {columns.map((column, n) =>
        n === 0 ? (
          <th key={column.id} role="rowheader" scope="row" data-column={column.id}>
            {row === undefined ? "…" : column.cell(row)}
          </th>
        ) : (
          <td key={column.id} role="cell" data-column={column.id} data-label={column.title}>
            {row === undefined ? null : column.cell(row)}
          </td>
        ),
      )}
    </tr>
  );
}

/** In place of the rows out of sight. */
function Space({ rows, height, columns }: { rows: number; height: number; columns: number }) {
  if (rows <= 0) return null;
  return (
    <tr aria-hidden="true" class="space">
      <td colSpan={columns} style={{ height: `${rows * height}px` }} />
    </tr>
  );
}
