// Compare: two versions side by side, and their answers to a set of prompts.

import { useRef, useState } from "preact/hooks";
import { link, remember } from "../lib/address.ts";
import { request, type Schema } from "../lib/api.ts";
import { may } from "../lib/caller.ts";
import { Field } from "../lib/form.tsx";
import { useAnswer } from "../lib/hooks.ts";
import type { PageProps } from "../lib/page.ts";
import { Act, metadataPairs, State, type Pair } from "../lib/parts.tsx";
import { provenance } from "../adapter/provenance.tsx";
import { bytes, moment } from "../lib/format.ts";
import { Answers } from "./answers.tsx";
import { PromptSets, readPrompts } from "./prompt-sets.tsx";

type Version = Schema["VersionRead"];

export function ComparePage({ query, signal }: PageProps) {
  const [a, setA] = useState(query.get("a") ?? "");
  const [b, setB] = useState(query.get("b") ?? "");
  const [{ set, prompts }, choose] = useState({ set: query.get("set") ?? "", prompts: linesOf(query.get("prompts") ?? "") });
  const typed = useRef<HTMLFormElement>(null);
  useAnswer("Saved prompts", async (signal) => {
    if (set && !prompts.length && may("infer")) choose({ set, prompts: await readPrompts(set, signal) }); // of a link
  });
  const [pair] = useAnswer("Compare", (signal) => readPair(a, b, signal), [a, b]);
  remember("/compare", { a, b, set, prompts: set ? "" : prompts.join("\n") });
  const written = () => {
    const lines = linesOf(typed.current!.querySelector("textarea")?.value ?? "");
    return lines.join("\n") === prompts.join("\n") ? prompts : lines; // a prompt of a set may have several lines
  };
  const apply = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(typed.current!);
    setA(String(form.get("a")).trim());
    setB(String(form.get("b")).trim());
    if (written() !== prompts) choose({ set: "", prompts: written() });
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
        {may("infer") && <Field label="Prompts" hint={set ? `Those of ${set}.` : "One a line; part of the address."}>
          <textarea key={prompts} name="prompts" rows={3} defaultValue={prompts.join("\n")} />
        </Field>}
        {may("infer") && <PromptSets chosen={set} written={written} onChoose={(name, all) => choose({ set: name, prompts: all })} />}
        <div class="row">
          <button class="primary">Compare</button>
        </div>
      </form>
      {pair && <Differences a={pair[0]} b={pair[1]} />}
      {pair && prompts.length > 0 && may("infer") && <Answers a={a} b={b} prompts={prompts} signal={signal} />}
    </>
  );
}

function linesOf(text: string): readonly string[] {
  return text.split("\n").filter((line) => line.trim());
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
