// Versions: a search through those of all adapters.

import { useRef, useState } from "preact/hooks";
import { adapterLink, remember } from "../lib/address.ts";
import { request, type Schema } from "../lib/api.ts";
import { Field } from "../lib/form.tsx";
import { bytes, count } from "../lib/format.ts";
import { useLater, usePages } from "../lib/hooks.ts";
import type { PageProps } from "../lib/page.ts";
import { Act, Row, State, Table, Tags } from "../lib/parts.tsx";
import { Time, zone } from "../lib/time.tsx";

type Version = Schema["VersionRead"];
type VersionState = Schema["VersionState"];

const PAGE = 50;
const TYPING_MS = 250;
const STATES: readonly VersionState[] = ["ready", "deprecated", "pending", "retired", "quarantined", "rejected", "purged"];
const COLUMNS = ["Version", "State", "Rank", "Size", "Tags", "Description", `Registered (${zone()})`];

interface Search {
  text: string;
  tag: string;
  state: string;
  rank_min: string;
  rank_max: string;
}

export function VersionsPage({ query }: PageProps) {
  const [search, setSearch] = useState<Search>(() => searchOf((name) => query.get(name)));
  remember("/versions", { ...search });
  const load = (page_token: string | undefined, signal: AbortSignal) =>
    request("get", "/api/v1/versions", { query: { ...filtersOf(search), limit: PAGE, page_token }, signal });
  const versions = usePages("Search", load, [search]);
  return (
    <>
      <div class="page-head">
        <h1>Versions</h1>
        <p class="row">
          <a href="#/adapters">All adapters</a>
        </p>
      </div>
      <Filters first={search} onChange={setSearch} />
      <div aria-live="polite">
        {versions.items && (
          <Results versions={versions.items} isFiltered={Object.values(search).some(Boolean)} readMore={versions.readMore} />
        )}
      </div>
    </>
  );
}

function searchOf(given: (name: string) => unknown): Search {
  const value = (name: string) => String(given(name) ?? "").trim();
  return { text: value("text"), tag: value("tag"), state: value("state"), rank_min: value("rank_min"), rank_max: value("rank_max") };
}

function filtersOf({ text, tag, state, rank_min: from, rank_max: to }: Search) {
  return {
    text: text || undefined,
    tag: tag ? [tag] : undefined,
    state: state ? [state as VersionState] : undefined,
    rank_min: from ? Number(from) : undefined,
    rank_max: to ? Number(to) : undefined,
  };
}

function Filters({ first, onChange }: { first: Search; onChange: (search: Search) => void }) {
  const form = useRef<HTMLFormElement>(null);
  const changed = useLater(TYPING_MS, () => {
    const given = new FormData(form.current!);
    onChange(searchOf((name) => given.get(name)));
  });
  return (
    <form class="filters" role="search" aria-label="Versions" ref={form} onInput={changed} onSubmit={(event) => event.preventDefault()}>
      <Field label="Words">
        <input name="text" type="search" id="search" placeholder="word prefixes" defaultValue={first.text} />
      </Field>
      <Field label="Tag">
        <input name="tag" defaultValue={first.tag} />
      </Field>
      <Field label="State">
        <select name="state" defaultValue={first.state}>
          <option value="">any</option>
          {STATES.map((state) => (
            <option key={state}>{state}</option>
          ))}
        </select>
      </Field>
      <Field label="Rank from">
        <input name="rank_min" type="number" min={1} class="narrow" defaultValue={first.rank_min} />
      </Field>
      <Field label="to">
        <input name="rank_max" type="number" min={1} class="narrow" defaultValue={first.rank_max} />
      </Field>
    </form>
  );
}

interface ResultsProps {
  versions: readonly Version[];
  isFiltered: boolean;
  readMore: (() => Promise<void>) | null;
}

function Results({ versions, isFiltered, readMore }: ResultsProps) {
  if (!versions.length) {
    return <p class="faint">{isFiltered ? "No versions match." : "Nothing is registered yet."}</p>;
  }
  return (
    <>
      <Table label="versions" columns={COLUMNS}>
        {versions.map((version) => (
          <Row key={version.reference} columns={COLUMNS} cells={cellsOf(version)} />
        ))}
      </Table>
      {readMore ? <Act label="Show more" action={readMore} /> : <p class="faint">{count(versions.length, "version")}</p>}
    </>
  );
}

function cellsOf(version: Version) {
  return [
    <a class="ref" href={adapterLink(version.adapter, { version: String(version.number) })}>
      {version.reference}
    </a>,
    <State of={version.state} />,
    version.rank,
    bytes(version.size_bytes),
    <Tags of={version.tags} />,
    version.description,
    <Time at={version.created_at} short />,
  ];
}
