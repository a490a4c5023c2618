// Filters of the adapters table: what the address says, and the form that changes it.

import type { TargetedEvent, TargetedInputEvent } from "preact";
import { Field } from "../lib/form.tsx";
import { OF_CACHE, type Search, type Sort } from "./overview.ts";

const STATES = ["ready", "deprecated", "pending", "retired", "quarantined", "rejected", "purged"];

/** `seesCache`: who may not read the cache can neither sort nor filter by it. */
export function searchOf(query: URLSearchParams, seesCache: boolean): Search {
  const value = (name: string) => query.get(name) ?? "";
  const order = seesCache || !OF_CACHE.includes(value("sort").replace(/^-/, "")) ? value("sort") || "name" : "name";
  return {
    text: value("text"),
    tag: query.getAll("tag"),
    owner: value("owner"),
    base: value("base"),
    state: value("state"),
    tenant: value("tenant"),
    memory: (seesCache ? value("memory") : "") as Search["memory"],
    sort: order.replace(/^-/, "") as Sort,
    descending: order.startsWith("-"),
  };
}

export function valuesOf(search: Search): Record<string, string | readonly string[]> {
  const { sort, descending, ...filters } = search;
  const order = `${descending ? "-" : ""}${sort}`;
  return { ...filters, sort: order === "name" ? "" : order };
}

interface Props {
  search: Search;
  bases: readonly string[];
  hasCache: boolean;
  /** What is typed waits for the next key; a choice does not. */
  onChange: (changed: Partial<Search>, immediately?: boolean) => void;
}

export function Filters({ search, bases, hasCache, onChange }: Props) {
  const typed = (name: keyof Search) => (event: TargetedInputEvent<HTMLInputElement>) =>
    onChange({ [name]: event.currentTarget.value.trim() });
  const chosen = (name: keyof Search) => (event: TargetedEvent<HTMLSelectElement>) =>
    onChange({ [name]: event.currentTarget.value }, true);
  const tags = (event: TargetedInputEvent<HTMLInputElement>) =>
    onChange({ tag: event.currentTarget.value.split(/[\s,]+/).filter(Boolean) });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    onChange({}, true); // Enter doesn't wait for the next key
  };
  return (
    <form class="filters" role="search" aria-label="Adapters" onSubmit={submit}>
      <Field label="Search" hint={null}>
        <input type="search" id="search" defaultValue={search.text} onInput={typed("text")} placeholder="part of a name, words" aria-keyshortcuts="/" />
      </Field>
      <Field label="Tag">
        <input defaultValue={search.tag.join(" ")} onInput={tags} />
      </Field>
      <Field label="Owner">
        <input defaultValue={search.owner} onInput={typed("owner")} />
      </Field>
      <Field label="State">
        <Select value={search.state} values={STATES} onChange={chosen("state")} />
      </Field>
      {hasCache && (
        <Field label="In memory">
          <Select value={search.memory} values={["in", "pinned"]} names={{ in: "in memory" }} onChange={chosen("memory")} />
        </Field>
      )}
      {(bases.length > 1 || search.base) && (
        <Field label="Base">
          <Select value={search.base} values={bases} onChange={chosen("base")} />
        </Field>
      )}
      <Field label="Tenant">
        <input defaultValue={search.tenant} class="narrow" onInput={typed("tenant")} />
      </Field>
    </form>
  );
}

interface SelectProps {
  id?: string;
  value: string;
  values: readonly string[];
  names?: Record<string, string>;
  onChange: (event: TargetedEvent<HTMLSelectElement>) => void;
}

function Select({ id, value, values, names = {}, onChange }: SelectProps) {
  return (
    <select id={id} value={value} onChange={onChange}>
      <option value="">any</option>
      {values.map((each) => (
        <option key={each} value={each}>
          {names[each] ?? each}
        </option>
      ))}
    </select>
  );
}
