// The page of one adapter: description, aliases, versions, and why they are where they are.

import { useEffect, useState } from "preact/hooks";
import { request } from "../lib/api.ts";
import { link } from "../lib/address.ts";
import { may } from "../lib/caller.ts";
import { useAnswer, useEvents } from "../lib/hooks.ts";
import type { PageProps } from "../lib/page.ts";
import { About } from "./about.tsx";
import { Aliases } from "./aliases.tsx";
import { Grants } from "./grants.tsx";
import { readPlaces } from "./places.ts";
import { Versions, type Version } from "./versions.tsx";

const PAGE = 200;

export function AdapterPage({ name, query, signal, onLinkState }: PageProps) {
  const [answer, refresh] = useAnswer(name, (signal) => readAll(name, signal), [name]);
  const [openVersions, toggleVersion] = useOpen(query.get("version") ? [Number(query.get("version"))] : []);
  const [openAliases, toggleAlias] = useOpen<string>([]);
  useEvents({ adapter: name }, signal, onLinkState, refresh);
  const isKnown = answer !== null;
  useEffect(() => {
    document.title = `${name} · Adaptry`;
    document.querySelector("tr.open")?.scrollIntoView({ block: "nearest" });
  }, [name, isKnown]);
  return (
    <>
      <div class="page-head">
        <h1>{name}</h1>
        <p class="row">
          {may("publish") && <a href={link("/publish", { name })}>Publish a version</a>}
          {may("operate") && <a href={link("/events", { adapter: name })}>Events</a>}
          {may("infer") && <a href={link("/try", { a: name })}>Try it</a>}
          {may("operate") && <a href={link("/cache", { ref: name })}>In the cache</a>}
        </p>
      </div>
      {answer && (
        <>
          <About adapter={answer.adapter} refresh={refresh} />
          <Aliases aliases={answer.aliases} open={openAliases} toggle={toggleAlias} refresh={refresh} />
          <Versions
            name={name}
            versions={answer.versions}
            aliases={answer.aliases}
            places={answer.places}
            open={openVersions}
            toggle={toggleVersion}
            refresh={refresh}
          />
          <Grants name={name} />
        </>
      )}
    </>
  );
}

function useOpen<T>(first: readonly T[]): [ReadonlySet<T>, (item: T) => void] {
  const [open, setOpen] = useState<ReadonlySet<T>>(() => new Set(first));
  const toggle = (item: T) =>
    setOpen((before) => new Set(before.has(item) ? [...before].filter((each) => each !== item) : [...before, item]));
  return [open, toggle];
}

async function readAll(name: string, signal: AbortSignal) {
  const path = { name };
  const [adapter, versions, aliases, places] = await Promise.all([
    request("get", "/api/v1/adapters/{name}", { path, signal }),
    allVersions(name, signal),
    request("get", "/api/v1/adapters/{name}/aliases", { path, signal }),
    readPlaces(signal),
  ]);
  return { adapter, versions, aliases: aliases.items, places };
}

async function allVersions(name: string, signal: AbortSignal): Promise<Version[]> {
  const found: Version[] = [];
  let token: string | null = null;
  do {
    const page: { items: Version[]; next_page_token: string | null } = await request(
      "get",
      "/api/v1/adapters/{name}/versions",
      { path: { name }, query: { limit: PAGE, page_token: token ?? undefined }, signal },
    );
    found.push(...page.items);
    token = page.next_page_token;
  } while (token !== null);
  return found.reverse();
}
