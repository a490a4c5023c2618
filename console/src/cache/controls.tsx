// Controls: where one reference is, and the actions on it.

import type { RefObject } from "preact";
import { useRef, useState } from "preact/hooks";
import { adapterLink } from "../lib/address.ts";
import { request } from "../lib/api.ts";
import { owns } from "../lib/caller.ts";
import { evict, pin, prefetch, unpin } from "../lib/cache-actions.ts";
import { Check, Field } from "../lib/form.tsx";
import { adapterOf, bytes, idle } from "../lib/format.ts";
import { useAnswer } from "../lib/hooks.ts";
import { Act, Facts } from "../lib/parts.tsx";
import { idOf, type Cache } from "./cells.ts";
import { Why } from "./why.tsx";

export interface Controlled {
  reference: string;
  /** How often it was explained; 0: it is not. */
  explained: number;
}

interface Props extends Controlled {
  cache: Cache | null;
  heading: RefObject<HTMLHeadingElement | null>;
  onReference: (reference: string) => void;
  onExplain: () => void;
  changed: () => Promise<void>;
}

export function Controls({ reference, explained, cache, heading, onReference, onExplain, changed }: Props) {
  const input = useRef<HTMLInputElement>(null);
  const [isPatient, setPatient] = useState(false);
  const named = reference.trim();
  const isOwn = !named || owns(adapterOf(named)); // another's, granted to this tenant, is not its to move
  const button = (label: string, action: (reference: string) => Promise<unknown>) => {
    const run = async () => {
      if (!named) return input.current!.focus();
      try {
        await action(named);
      } finally {
        await changed();
      }
    };
    return <Act label={label} doing={`${label} ${named}`} action={run} />;
  };
  return (
    <section class="controls" aria-label="Control an adapter">
      <h2 tabIndex={-1} ref={heading}>
        Control
      </h2>
      <Field label="Reference">
        <input
          ref={input}
          value={reference}
          class="ref"
          list="known"
          autoComplete="off"
          spellcheck={false}
          placeholder="upper, upper@prod or upper:3"
          onInput={(event) => onReference(event.currentTarget.value)}
        />
      </Field>
      <div class="control-facts">
        <Where cache={cache} reference={named} />
      </div>
      <div class="row actions" role="group" aria-label="Actions">
        {isOwn && (
          <>
            {button("Pin in a slot", (of) => pin(of, "gpu"))}
            {button("Pin in host memory", (of) => pin(of, "host"))}
            {button("Unpin", unpin)}
            {button("Prefetch", prefetch)}
            {button("Evict", (of) => evict(of, isPatient))}
          </>
        )}
        <Act label="Why?" action={() => (named ? onExplain() : input.current!.focus())} />
      </div>
      {isOwn && <Check label="Evict waits for running requests" checked={isPatient} onChange={(event: Event) => setPatient((event.currentTarget as HTMLInputElement).checked)} />}
      <div class="why" aria-live="polite">
        {explained > 0 && named && <Why key={explained} reference={named} />}
      </div>
      <Known />
    </section>
  );
}

/** References to choose from while typing. */
function Known() {
  const [page] = useAnswer("The list of adapters", (signal) => request("get", "/api/v1/adapters", { query: { limit: 200 }, signal }));
  return (
    <datalist id="known">
      {page?.items.map(({ name }) => (
        <option key={name} value={name} />
      ))}
    </datalist>
  );
}

/** Where it is now; an adapter without a version means all of its versions in memory. */
function Where({ cache, reference }: { cache: Cache | null; reference: string }) {
  if (!cache || !reference) return <p class="faint">Select an adapter, or type its name.</p>;
  const isIt = (of: string) => of === reference || adapterOf(of) === reference;
  const found = cache.host.filter((each) => isIt(each.reference));
  if (!found.length) {
    return <p class="faint">{cache.loading.some(isIt) ? "It is loading." : `${reference} is not in memory.`}</p>;
  }
  const inSlots = new Set(cache.gpu.map(idOf)); // on one replica it may be in a slot, on another not
  return (
    <>
      {found.map((each) => (
        <Facts
          key={`${each.reference} ${each.replica}`}
          of={[
            [
              "Version",
              <a class="ref" href={adapterLink(adapterOf(each.reference))}>
                {each.reference}
              </a>,
            ],
            ["In", inSlots.has(idOf(each)) ? slotOf(each.slot) : "host memory"],
            ["On", each.replica],
            ["Pinned", each.pinned ? `in the ${each.pinned} tier` : "no"],
            ["Leases", each.leases],
            ["Waiting", each.waiting],
            ["Hits", each.hits],
            ["Takes", bytes(each.host_bytes)],
            ["Idle", each.idle_seconds >= 1 ? idle(each.idle_seconds) : null],
          ]}
        />
      ))}
    </>
  );
}

function slotOf(slot: number | null): string {
  return slot === null ? "a GPU slot" : `GPU slot ${slot}`;
}
