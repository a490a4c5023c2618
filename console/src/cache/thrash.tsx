// Thrashing adapters, those that are evicted and loaded again, with a remedy.

import { useEffect, useState } from "preact/hooks";
import { adapterLink } from "../lib/address.ts";
import { request } from "../lib/api.ts";
import { pin, type Tier } from "../lib/cache-actions.ts";
import { owns } from "../lib/caller.ts";
import { count } from "../lib/format.ts";
import { Act } from "../lib/parts.tsx";
import type { Cache } from "./cells.ts";
import { THRASH_EVICTIONS, requestedAdapters, thrashing, type Thrashing, type Timed } from "./decision-window.ts";

const SHOWN = 3;
const MEND_MS = 30000;

interface Actions {
  onExplain: (adapter: string) => void;
  changed: () => Promise<void>;
}

interface Props extends Actions {
  lastMinute: readonly Timed[];
  cache: Cache | null;
}

export function Thrash({ lastMinute, cache, ...actions }: Props) {
  const found = thrashing(lastMinute);
  return (
    <div role="status">
      {found.length > 0 && (
        <section class="thrash" aria-label="Thrashing">
          <p>{cache && leadOf(found, requestedAdapters(lastMinute), cache)}</p>
          <Mend />
          <ul>
            {found.slice(0, SHOWN).map((each) => (
              <Item key={each.adapter} of={each} {...actions} />
            ))}
          </ul>
        </section>
      )}
    </div>
  );
}

/** What would help most, as the policy's shadows have it; nothing from a server without them. */
function Mend() {
  const [mend, setMend] = useState("");
  useEffect(() => {
    const leaving = new AbortController();
    const ask = async () => {
      if (document.hidden) return;
      const policy = await request("get", "/api/v1/cache/policy", { signal: leaving.signal }).catch(() => null);
      if (!leaving.signal.aborted) setMend(policy?.mend ?? "");
    };
    void ask();
    const timer = setInterval(() => void ask(), MEND_MS);
    return () => {
      clearInterval(timer);
      leaving.abort();
    };
  }, []);
  return mend ? <p class="mend">{mend}</p> : null;
}

function leadOf(found: readonly Thrashing[], requested: number, { slots, host_capacity: places }: Cache): string {
  const room = `${count(slots, "GPU slot")} and ${count(places, "place")} in host memory`;
  const more = found.length > SHOWN ? ` Of ${found.length} that thrash, the worst:` : "";
  return `${count(requested, "adapter was", "adapters were")} requested in the last minute, with ${room}.${more}`;
}

function times({ gpu, host }: Thrashing): string {
  const left = [gpu > 0 && `${count(gpu, "time")} from its GPU slot`, host > 0 && `${count(host, "time")} from host memory`];
  return `was evicted ${left.filter(Boolean).join(" and ")} in the last minute: `;
}

/** An adapter evicted from host memory has to be read from disk again: fix that first. */
function Item({ of: thrashing, onExplain, changed }: Actions & { of: Thrashing }) {
  const { adapter } = thrashing;
  const isReadAgain = thrashing.host >= THRASH_EVICTIONS;
  const button = (label: string, tier: Tier) => (
    <Act label={label} name={`${label}: ${adapter}`} doing={`Pin ${adapter}`} action={() => pin(adapter, tier).then(changed)} />
  );
  return (
    <li>
      <span>
        <a class="ref" href={adapterLink(adapter)}>
          {adapter}
        </a>{" "}
        {times(thrashing)}pin it or raise <code class="flag">{isReadAgain ? "--max-cpu-loras" : "--max-loras"}</code>.
      </span>
      <div class="row">
        {owns(adapter) && button("Pin in a slot", "gpu")}
        {owns(adapter) && isReadAgain && button("Pin in host memory", "host")}
        <Act label="Why?" name={`Why does ${adapter} thrash?`} action={() => onExplain(adapter)} />
      </div>
    </li>
  );
}
