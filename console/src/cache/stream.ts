// The cache's decisions as they are made, after those from before the page was opened.

import { useEffect, useRef, useState } from "preact/hooks";
import { request, serverNow } from "../lib/api.ts";
import { showProblem } from "../lib/notices.tsx";
import type { OnLinkState } from "../lib/page.ts";
import { follow } from "../lib/sse.ts";
import { DecisionWindow } from "./decision-window.ts";
import type { Decision } from "./decisions.tsx";

const BACKFILL = 1000;
const DRAW_MS = 1000;
const COUNT_MS = 200;

interface Stream {
  decisions: DecisionWindow;
  /** When it was last drawn; every second, as what is shown gets older. */
  drawnAt: number;
  /** Whether those from before the page was opened are among them. */
  isRead: boolean;
}

/** Draws again once a second, and soon after decisions. `onNew` is called for each that the stream brings. */
export function useDecisions(signal: AbortSignal, onLinkState: OnLinkState, onNew: (decision: Decision, isFirstSeen: boolean) => void): Stream {
  const decisions = useRef(new DecisionWindow()).current;
  const [drawnAt, setDrawnAt] = useState(serverNow);
  const [, count] = useState(0);
  const [isRead, setRead] = useState(false);
  const latest = useRef(onNew);
  latest.current = onNew;
  useEffect(() => {
    let counting = 0;
    const draw = () => {
      if (signal.aborted || document.hidden) return;
      decisions.prune(serverNow());
      setDrawnAt(serverNow());
    };
    const countSoon = () => {
      counting ||= window.setTimeout(() => {
        counting = 0;
        count((n) => n + 1);
      }, COUNT_MS);
    };
    const onMessage = ({ data }: { data: string }) => {
      const decision = JSON.parse(data) as Decision;
      const isFirstSeen = decisions.add(decision);
      if (isFirstSeen) countSoon();
      latest.current(decision, isFirstSeen);
    };
    const backfill = async () => {
      try {
        const { items } = await request("get", "/api/v1/cache/decisions", { query: { limit: BACKFILL }, signal });
        for (const decision of items) decisions.add(decision);
        setRead(true);
        draw();
      } catch (error) {
        if (!signal.aborted) showProblem(error, "Earlier decisions");
      }
    };
    void follow("api/v1/cache/stream", { signal, onMessage, onState: onLinkState, onOpen: () => void backfill() });
    const timer = setInterval(draw, DRAW_MS);
    return () => {
      clearInterval(timer);
      clearTimeout(counting);
    };
  }, [signal]);
  return { decisions, drawnAt, isRead };
}
