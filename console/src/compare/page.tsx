// Compare: two versions side by side, and their answers to a set of prompts.

import { useRef, useState } from "preact/hooks";
import { link, remember } from "../lib/address.ts";
import { request, type Schema } from "../lib/api.ts";
import { Field } from "../lib/form.tsx";
import { useAnswer } from "../lib/hooks.ts";
import type { PageProps } from "../lib/page.ts";
import { Act, metadataPairs, State, type Pair } from "../lib/parts.tsx";
import { provenance } from "../adapter/provenance.tsx";
import { bytes, moment } from "../lib/format.ts";
import { Answers } from "./answers.tsx";

type Version = Schema["VersionRead"];

export function ComparePage({ query, signal }: PageProps) {
  const [a, setA] = useState(query.get("a") ?? "");
  const [b, setB] = useState(query.get("b") ?? "");
  const [prompts, setPrompts] = useState(query.get("prompts") ?? "");
  const typed = useRef<HTMLFormElement>(null);
  const [pair] = useAnswer("Compare", (signal) => readPair(a, b, signal), [a, b]);
  remember("/compare", { a, b, prompts });
  const apply = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(typed.current!);
    setA(String(form.get("a")).trim());
    setB(String(form.get("b")).trim());
    setPrompts(String(form.get("prompts")));
  };
  return (
    <>
      <div class="page-head">
        <h1>Compare</h1>
        <p class="faint">Two versions side by side. The address is a link to share.</p>
      </div>
      <form class="filters" ref={typed} onSubmit={apply}>
        <Field label="Reference A">
          <input name="a" required defaultValue={a} class="ref" spellcheck={false} placeholder="upper:1" />
        </Field>
        <Field label="Reference B">
          <input name="b" required defaultValue={b} class="ref" spellcheck={false} placeholder="upper:2" />
        </Field>
        <Field label="Prompts" hint="One a line; part of the address.">
          <textarea name="prompts" rows={3} defaultValue={prompts} />
        </Field>
        <div class="row">
          <button class="primary">Compare</button>
        </div>
      </form>
      {pair && <Differences a={pair[0]} b={pair[1]} />}
      {pair && prompts.trim() && <Answers a={a} b={b} prompts={prompts.split("\n").filter((line) => line.trim())} signal={signal} />}
    </>
  );
}

async function readPair(a: string, b: string, signal: AbortSignal): Promise<[Version, Version] | null> {
  if (!a || !b) return null;
  return Promise.all([readVersion(a, signal), readVersion(b, signal)]);
}

async function readVersion(reference: string, signal: AbortSignal): Promise<Version> {
  const found = await request("get", "/api/v1/resolve", { query: { reference }, signal });
  const path = { name: found.adapter, number: found.number };
  return request("get", "/api/v1/adapters/{name}/versions/{number}", { path, signal });
}

function factsOf(version: Version): Pair[] {
  const { inspection } = version;
  return [
    ["State", version.state],
    ["Rank", version.rank],
    ["Ranks of modules", inspection && JSON.stringify(inspection.ranks)],
    ["Modules", inspection?.modules],
    ["Parameters", inspection?.parameters.toLocaleString("en")],
    ["Size", bytes(version.size_bytes)],
    ["Target modules", version.target_modules.join(", ")],
    ...provenance(version),
    ["Source", version.source],
    ["Digest", version.digest],
    ["Tags", version.tags.join(", ")],
    ["Description", version.description],
    ["Registered", moment(version.created_at)],
    ["Registered by", version.created_by],
    // an entry named State or Digest must not stand in place of the registry's own
    ...metadataPairs(version.metadata).map(([name, value]): Pair => [`Metadata: ${name}`, value]),
  ];
}

function Differences({ a, b }: { a: Version; b: Version }) {
  const [onlyDifferent, setOnly] = useState(false);
  const [of, other] = [new Map(factsOf(a)), new Map(factsOf(b))];
  const terms = [...new Set([...of.keys(), ...other.keys()])];
  const rows = terms
    .map((term) => ({ term, left: of.get(term) ?? "–", right: other.get(term) ?? "–" }))
    .filter(({ left, right }) => !onlyDifferent || left !== right);
  return (
    <section>
      <p class="row">
        <Act label={onlyDifferent ? "Show all" : "Show differences only"} action={() => setOnly(!onlyDifferent)} />
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Differences">
        <table class="compare">
          <caption class="unseen">Differences</caption>
          <thead>
            <tr>
              <th scope="col">What</th>
              {[a, b].map((each) => (
                <th key={each.reference} scope="col">
                  <a class="ref" href={link(`/adapters/${encodeURIComponent(each.adapter)}`, { version: String(each.number) })}>
                    {each.reference}
                  </a>{" "}
                  <State of={each.state} />
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map(({ term, left, right }) => (
              <tr key={term}>
                <th scope="row">
                  {term}
                  {left !== right && <span class="unseen"> differs</span>}
                </th>
                {[left, right].map((value, n) => (
                  <td key={n} data-label={n ? b.reference : a.reference} class={left === right ? "" : "differs"}>
                    {value}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
