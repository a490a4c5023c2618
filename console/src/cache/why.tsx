// Why a version is where it is: the server's own explanation.

import { link } from "../lib/address.ts";
import { request, type Schema } from "../lib/api.ts";
import { useAnswer } from "../lib/hooks.ts";
import { DecisionLine } from "./decisions.tsx";

type Now = Schema["StandingRead"];

const PLACES: Record<Now["tier"], string> = { gpu: "in GPU slot", host: "in host memory", disk: "on disk only" };

export function Why({ reference }: { reference: string }) {
  const load = (signal: AbortSignal) => request("get", "/api/v1/cache/why/{reference}", { path: { reference }, signal });
  const [why] = useAnswer(`Why ${reference}`, load, [reference]);
  if (why === null) return null;
  return (
    <>
      <p class="summary">{why.summary}</p>
      <p class="facts">{factsOf(why.now)}</p>
      {why.decisions.length > 0 ? (
        <ol class="decisions">
          {why.decisions.map((decision) => (
            <DecisionLine key={decision.id} of={decision} />
          ))}
        </ol>
      ) : (
        <p class="faint">No recent decisions.</p>
      )}
      <p>
        <a href={link("/history", { adapter: why.adapter })}>Its last day</a>
      </p>
    </>
  );
}

function factsOf(now: Now): string {
  const slot = now.slot === null || now.slot === undefined ? "" : ` ${now.slot}`;
  return [
    `${PLACES[now.tier]}${slot}`,
    now.pinned && `pinned (${now.pinned})`,
    now.leases > 0 && `${now.leases} leased`,
    now.waiting > 0 && `${now.waiting} waiting`,
    now.loading && "loading",
    now.leaving && "evicted once idle",
    now.next_victim && "next victim",
  ]
    .filter(Boolean)
    .join(" · ");
}
