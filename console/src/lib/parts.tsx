// Small components that several pages use.

import type { ComponentChildren } from "preact";
import { attempt } from "./notices.tsx";

export function State({ of }: { of: string }) {
  return (
    <span class="state" data-state={of}>
      {of}
    </span>
  );
}

export function Tags({ of }: { of: readonly string[] }) {
  return (
    <>
      {of.map((tag) => (
        <span key={tag} class="tag">
          {tag}
        </span>
      ))}
    </>
  );
}

export function Code({ of, wrap = false }: { of: string; wrap?: boolean }) {
  return <code class={wrap ? "wrap" : "code"}>{of}</code>;
}

export type Pair = readonly [string, ComponentChildren];

/** Pairs of a term and its value; one without a value is left out. */
export function Facts({ of }: { of: readonly Pair[] }) {
  const shown = of.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return (
    <dl class="facts-list">
      {shown.map(([term, value], n) => (
        <div key={`${n} ${term}`}>
          <dt>{term}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Users' JSON as text. */
export function metadataPairs(metadata: Record<string, unknown>): Pair[] {
  return Object.entries(metadata).map(([name, value]) => [
    name,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
}

interface TableProps {
  label: string;
  columns: readonly string[];
  children: ComponentChildren;
}

/** A table that scrolls if it is too wide; on phones each row is a block (see `Row`). */
export function Table({ label, columns, children }: TableProps) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={label}>
      <table role="table">
        <caption class="unseen">{label}</caption>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((column) => (
              <th key={column} scope="col" role="columnheader">
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">{children}</tbody>
      </table>
    </div>
  );
}

/** One row; the first cell is its header. */
export function Row({ columns, cells }: { columns: readonly string[]; cells: readonly ComponentChildren[] }) {
  return (
    <tr role="row">
      {cells.map((cell, n) =>
        n === 0 ? (
          <th key={n} scope="row" role="rowheader" data-label={columns[n]}>
            {cell}
          </th>
        ) : (
          <td key={n} role="cell" data-label={columns[n]}>
            {cell}
          </td>
        ),
      )}
    </tr>
  );
}

interface ActProps {
  label: string;
  name?: string;
  /** What a refusal is shown under; else the button's name. */
  doing?: string;
  danger?: boolean;
  expanded?: boolean;
  action: () => unknown;
}

/** A button whose refusal is shown as a notice, and that can't be pressed twice. */
export function Act({ label, name, doing = name ?? label, danger = false, expanded, action }: ActProps) {
  return (
    <button
      type="button"
      class={danger ? "danger-text" : undefined}
      aria-label={name}
      aria-expanded={expanded}
      onClick={(event) => void attempt(event.currentTarget, doing, action)}
    >
      {label}
    </button>
  );
}
