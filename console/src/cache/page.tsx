// The cache page: both tiers, live.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { remember } from "../lib/address.ts";
import { request, serverNow } from "../lib/api.ts";
import { count } from "../lib/format.ts";
import { useAnswer, useInterval } from "../lib/hooks.ts";
import { announce } from "../lib/notices.tsx";
import type { PageProps } from "../lib/page.ts";
import { zone } from "../lib/time.tsx";
import { Controls, type Controlled } from "./controls.tsx";
import { MINUTE_MS, flows, lookups, type DecisionWindow, type Timed } from "./decision-window.ts";
import { DecisionLine } from "./decisions.tsx";
import { usePulses } from "./motion.ts";
import { Plots } from "./plots.tsx";
import { useDecisions } from "./stream.ts";
import { Thrash } from "./thrash.tsx";
import { Tiers } from "./tiers.tsx";

const REFRESH_MS = 2000; // the end of a request is not a decision: it has to be polled
const SOON_MS = 400; // changes that are faster can't be read
const ANNOUNCE_MS = 15000;

export function CachePage({ query, signal, onLinkState }: PageProps) {
  const [selected, setSelected] = useState(query.get("ref"));
  const [controlled, setControlled] = useState<Controlled>({ reference: selected ?? "", explained: 0 });
  const [cache, refresh] = useAnswer("Cache", (signal) => request("get", "/api/v1/cache", { signal }));
  const refreshSoon = useSoon(SOON_MS, refresh);
  const [place, pulse] = usePulses<HTMLElement>();
  const { decisions, drawnAt, isRead } = useDecisions(signal, onLinkState, ({ kind, reference, outcome }, isFirstSeen) => {
    if (isFirstSeen && kind === "looked_up" && reference && outcome) pulse(reference, outcome);
    refreshSoon();
  });
  useInterval(REFRESH_MS, refresh);
  const heading = useRef<HTMLHeadingElement>(null);
  const select = (reference: string) => {
    setSelected(reference);
    setControlled({ reference, explained: 0 });
    remember("/cache", { ref: reference });
    heading.current!.focus();
  };
  const explain = (reference: string) => setControlled(({ explained }) => ({ reference, explained: explained + 1 }));
  const lastMinute = decisions.since(serverNow() - MINUTE_MS);
  const plots = useMemo(() => <Plots decisions={decisions.all} now={drawnAt} />, [drawnAt]);
  return (
    <>
      <div class="page-head">
        <h1>Cache</h1>
        <LastMinute decisions={lastMinute} />
        <p class="row end-of-line">
          <a href="#/sizing">Sizing</a>
        </p>
      </div>
      <Thrash lastMinute={lastMinute} cache={cache} onExplain={explain} changed={refresh} />
      <div class="cache-columns">
        <div class="cache-main">
          {cache && <Tiers cache={cache} flow={flows(lastMinute)} place={place} selected={selected} onSelect={select} />}
          {plots}
          <Tail decisions={decisions} isComplete={isRead} />
        </div>
        <Controls
          {...controlled}
          cache={cache}
          heading={heading}
          onReference={(reference) => setControlled({ reference, explained: 0 })}
          onExplain={() => explain(controlled.reference)}
          changed={refresh}
        />
      </div>
    </>
  );
}

/** A function that calls `action` so long after its first call, once for all calls until then. */
function useSoon(milliseconds: number, action: () => unknown): () => void {
  const latest = useRef(action);
  latest.current = action;
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  return () => {
    timer.current ||= window.setTimeout(() => {
      timer.current = 0;
      void latest.current();
    }, milliseconds);
  };
}

function LastMinute({ decisions }: { decisions: readonly Timed[] }) {
  const { gpu_hit: gpu, host_hit: host, miss, total } = lookups(decisions);
  const counted = [
    count(total, "lookup"),
    count(gpu, "GPU hit"),
    count(host, "host hit"),
    count(miss, "miss", "misses"),
    count(decisions.filter(({ kind }) => kind === "evicted").length, "eviction"),
  ];
  const text = `Last minute: ${counted.join(", ")}`;
  const announcedAt = useRef(0);
  useEffect(() => {
    if (total === 0 || performance.now() - announcedAt.current < ANNOUNCE_MS) return;
    announcedAt.current = performance.now();
    announce(text);
  }, [text]);
  return <p class="minute">{text}</p>;
}

/** The newest decisions; paused while the pointer or the focus is in the list. */
function Tail({ decisions, isComplete }: { decisions: DecisionWindow; isComplete: boolean }) {
  const list = useRef<HTMLOListElement>(null);
  const shown = useRef<readonly Timed[]>([]);
  const isRead = list.current?.matches(":hover, :focus-within") ?? false;
  if (!isRead) shown.current = decisions.newest;
  const none = isComplete ? "none since the server has started" : "not read yet";
  const note = decisions.newest.length ? `times in ${zone()}` : none;
  return (
    <section class="tail" aria-label="Decisions">
      <header class="row">
        <h2>Decisions</h2>
        <a href="#/history">Earlier ones</a>
        <span class="faint">{isRead ? "paused while you read" : note}</span>
      </header>
      <ol class="decisions" aria-label="Decisions, newest first" ref={list}>
        {shown.current.map((decision) => (
          <DecisionLine key={decision.id} of={decision} />
        ))}
      </ol>
    </section>
  );
}
