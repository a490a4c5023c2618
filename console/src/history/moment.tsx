// A moment of the history: one server's tiers then, and the decisions around it.

import { useEffect, useState } from "preact/hooks";
import { request, serverNow, type Schema } from "../lib/api.ts";
import { useAnswer } from "../lib/hooks.ts";
import { moment } from "../lib/format.ts";
import { PastCache } from "./past-cache.tsx";
import { PastDecisions } from "./past-decisions.tsx";
import { iso, MINUTE, SECOND, SOON_MS } from "./times.ts";

type Past = Schema["PastRead"];

const AROUND = MINUTE;
const MOST = 400;

interface MomentProps {
  at: number;
  server: string;
  /** The replica, where there are several; null: there is one server. */
  of: string | null;
  /** When what is kept begins. */
  oldest: number;
  chosen: string | null;
  choose: (adapter: string | null) => void;
  go: (at: number) => void;
}

export function Moment({ at, server, of, oldest, chosen, choose, go }: MomentProps) {
  const settled = useSettled(at);
  const [found] = useAnswer(labelOf("The state then", of), (signal) => readMoment(server, settled, oldest, signal), [server, settled]);
  if (!found) return null;
  const { asked, past, decisions } = found;
  const time = Date.parse(past.at);
  return (
    <div class="cache-main" aria-busy={asked !== at}>
      {past.cache ? (
        <PastCache
          label={labelOf("Both tiers", of)}
          cache={past.cache}
          decisions={decisions.items}
          at={time}
          chosen={chosen}
          choose={(name) => choose(name === chosen ? null : name)}
        />
      ) : (
        <Unknown label={labelOf("Not known", of)} past={past} go={go} />
      )}
      <PastDecisions label={labelOf("Decisions", of)} page={decisions} at={time} chosen={chosen} choose={choose} go={go} />
    </div>
  );
}

/** Sections of several replicas have several names. */
function labelOf(what: string, replica: string | null): string {
  return replica ? `${what} of ${replica}` : what;
}

function useSettled(at: number): number {
  const [settled, setSettled] = useState(at);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(at), SOON_MS);
    return () => clearTimeout(timer);
  }, [at]);
  return settled;
}

/** `asked`: the time that was asked for; of one that has not come yet, the server answers its present. */
interface Found {
  asked: number;
  past: Past;
  decisions: Schema["PastDecisionList"];
}

async function readMoment(server: string, at: number, oldest: number, signal: AbortSignal): Promise<Found> {
  const until = Math.max(Math.min(at + AROUND, serverNow()), oldest + SECOND);
  const range = { server, from: iso(Math.max(at - AROUND, oldest)), to: iso(until), limit: MOST };
  const [past, decisions] = await Promise.all([
    request("get", "/api/v1/cache/history/state", { query: { server, at: iso(at) }, signal }),
    request("get", "/api/v1/cache/history/decisions", { query: range, signal }),
  ]);
  return { asked: at, past, decisions };
}

function Unknown({ label, past, go }: { label: string; past: Past; go: (at: number) => void }) {
  const { since, until } = past.unknown ?? { since: null, until: null };
  return (
    <section class="tiers" aria-label={label}>
      <h2>Nothing is known of this time</h2>
      <p>The server did not run, or could not save its history. What was in the slots is not guessed from before or after.</p>
      <p class="row">
        {since && (
          <button type="button" onClick={() => go(Date.parse(since) - SECOND)}>
            Last known: {moment(since)}
          </button>
        )}
        {until && (
          <button type="button" onClick={() => go(Date.parse(until) + SECOND)}>
            Known again: {moment(until)}
          </button>
        )}
        {!since && <span class="faint">Nothing before it is kept.</span>}
        {!until && <span class="faint">Nothing after it is recorded yet.</span>}
      </p>
    </section>
  );
}
