// Sizing: what the server's last lookups would have hit with other numbers of slots and host places.

import { get, request } from "../lib/api.ts";
import { may } from "../lib/caller.ts";
import { count, percent } from "../lib/format.ts";
import { useAnswer, useInterval } from "../lib/hooks.ts";
import { Facts, Row, Table } from "../lib/parts.tsx";
import { Axis, Dot, Figure, PlaceAxis } from "../cache/figure.tsx";
import { linear, logarithmic, path } from "../cache/scales.ts";
import { FEWEST_LOOKUPS, placesFor, serveLine, type TierPolicy } from "./advice.ts";

const POLL_MS = 30000;
const NAMES = { gpu: "Slots", host: "Places in host memory" };
const COLUMNS = ["Places", "Hit ratio of LRU", "Note"];
const LEGEND = [
  ["line-memory", "LRU"],
  ["dot-gpu", "now"],
  ["dot-host", "recommended"],
] as const;

export function SizingPage() {
  const [policy, refresh] = useAnswer("Sizing", (signal) => request("get", "/api/v1/cache/policy", { signal }));
  const [model] = useAnswer("The base model", readModel);
  useInterval(POLL_MS, refresh);
  return (
    <>
      <div class="page-head">
        <h1>Sizing</h1>
        <p class="row">
          <a href="#/cache">Cache</a>
        </p>
      </div>
      {policy && policy.tiers.length === 0 && <p class="faint">No request has been served yet. Send some, and come back.</p>}
      {policy && policy.tiers.length > 0 && (
        <>
          <Advice model={model ?? "MODEL"} tiers={policy.tiers} mend={policy.mend} />
          <h2 class="unseen">Hit ratio by places</h2>
          <section class="plots" aria-label="Hit ratio by places">
            {policy.tiers.map((tier) => (
              <Curve key={tier.tier} of={tier} />
            ))}
          </section>
          <div class="sides">
            {policy.tiers.map((tier) => (
              <Places key={tier.tier} of={tier} />
            ))}
          </div>
        </>
      )}
    </>
  );
}

/** Where this server found its base model; `MODEL` for who may not ask, or if it says nothing. */
async function readModel(signal: AbortSignal): Promise<string> {
  if (!may("infer")) return "MODEL";
  const { data } = await get<{ data: { root?: string; parent?: string | null }[] }>("v1/models", signal);
  return data.find(({ root, parent }) => root && !parent)?.root ?? "MODEL";
}

function Advice({ model, tiers, mend }: { model: string; tiers: readonly TierPolicy[]; mend: string }) {
  const line = serveLine(model, tiers);
  const lookups = Math.max(...tiers.map((each) => each.lookups));
  return (
    <section aria-label="Recommended">
      <p>
        Of the last {count(lookups, "lookup")} of this server.{" "}
        {line
          ? "The fewest places that hit within one point of what any number of them would have:"
          : `Fewer than ${FEWEST_LOOKUPS} say too little to recommend a size.`}
      </p>
      {line && (
        <pre class="answer command" tabIndex={0} role="region" aria-label="Recommended command">
          {line}
        </pre>
      )}
      {mend && <p class="mend">{mend}</p>}
      <p class="faint">
        For waits, memory and replicas, <code>adaptry size --first-token 0.5 --share 0.99</code> simulates the trace that this server
        has recorded.
      </p>
    </section>
  );
}

function Curve({ of: tier }: { of: TierPolicy }) {
  const best = placesFor(tier);
  const most = Math.max(2, tier.curve.at(-1)?.places ?? 2);
  return (
    <Figure title={NAMES[tier.tier]} legend={LEGEND} text={`${count(tier.places, tier.tier === "gpu" ? "slot" : "place")} now: ${percent(tier.live)}`}>
      {(frame) => {
        const x = logarithmic(1, most, frame.left, frame.right);
        const y = linear(0, 1, frame.bottom, frame.top);
        const at = (places: number) => tier.curve.find((each) => each.places === places);
        const [now, wanted] = [at(tier.places), best === null ? undefined : at(best)];
        return (
          <>
            <Axis frame={frame} ticks={[0, 0.5, 1]} scale={y} label={percent} />
            <PlaceAxis frame={frame} most={most} scale={x} />
            <path class="line-memory" d={path(tier.curve.map((each) => ({ x: x(each.places), y: y(each.lru) })))} />
            {now && <Dot mark="dot-gpu" x={x(now.places)} y={y(now.lru)} />}
            {wanted && <Dot mark="dot-host" x={x(wanted.places)} y={y(wanted.lru)} />}
          </>
        );
      }}
    </Figure>
  );
}

function Places({ of: tier }: { of: TierPolicy }) {
  const best = placesFor(tier);
  const note = (places: number) =>
    [places === tier.places && "now", places === best && "recommended"].filter(Boolean).join(", ");
  return (
    <section class="side" aria-label={NAMES[tier.tier]}>
      <h2>{NAMES[tier.tier]}</h2>
      <Facts
        of={[
          ["Now", tier.places],
          ["Hit ratio", percent(tier.live)],
          ["LRU", percent(tier.lru)],
          ["Optimum", percent(tier.optimum)],
          ["Candidate", tier.candidate === null ? null : percent(tier.candidate)],
        ]}
      />
      <Table label={`${NAMES[tier.tier]}: hit ratio`} columns={COLUMNS}>
        {tier.curve.map(({ places, lru }) => (
          <Row key={places} columns={COLUMNS} cells={[places, `${(100 * lru).toFixed(1)} %`, note(places)]} />
        ))}
      </Table>
    </section>
  );
}
