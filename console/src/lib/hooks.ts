// Hooks: what several components wait for or follow.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { may } from "./caller.ts";
import { clearProblem, showProblem } from "./notices.tsx";
import { follow } from "./sse.ts";

const LONGEST_MS = 60_000; // of an answer: a connection that is lost may not say so

/** What `load` last answered, and a function that asks again. A problem is shown under `doing`. */
export function useAnswer<T>(
  doing: string,
  load: (signal: AbortSignal) => Promise<T>,
  dependencies: readonly unknown[] = [],
): [T | null, () => Promise<void>] {
  const [answer, setAnswer] = useState<T | null>(null);
  const running = useRef<AbortController | null>(null);
  const ask = useCallback(async () => {
    running.current?.abort();
    const mine = (running.current = new AbortController());
    try {
      const found = await load(AbortSignal.any([mine.signal, AbortSignal.timeout(LONGEST_MS)]));
      if (mine.signal.aborted) return;
      clearProblem(doing);
      setAnswer(() => found);
    } catch (error) {
      if (!mine.signal.aborted) showProblem(error as Error, doing);
    }
  }, dependencies);
  useEffect(() => {
    void ask();
    return () => running.current?.abort();
  }, [ask]);
  return [answer, ask];
}

/** Calls `action` soon after an event of the registry, once for many, and again only when it is done. */
export function useEvents(
  query: Record<string, string>,
  signal: AbortSignal,
  onLinkState: (state: string | null, problem?: Error | null) => void,
  action: () => unknown,
): void {
  const latest = useRef(action);
  latest.current = action;
  useEffect(() => {
    if (!may("operate")) return; // who may not read events sees a page as it was opened
    let timer = 0;
    let isStale = false;
    const onMessage = () => {
      isStale = true;
      timer ||= window.setTimeout(async () => {
        isStale = false;
        await latest.current(); // asking again would abort an answer that takes longer
        timer = 0;
        if (isStale && !signal.aborted) onMessage();
      }, 300);
    };
    void follow("api/v1/events/stream", { query, signal, onMessage, onState: onLinkState });
    return () => clearTimeout(timer);
  }, [signal]);
}

/** Calls `action` every so often while the tab is shown, but not before the last call is done. */
export function useInterval(milliseconds: number, action: () => unknown): void {
  const latest = useRef(action);
  latest.current = action;
  useEffect(() => {
    let isRunning = false;
    const poll = async () => {
      if (document.hidden || isRunning) return;
      isRunning = true;
      await latest.current(); // asking again would abort an answer that takes longer
      isRunning = false;
    };
    const timer = setInterval(() => void poll(), milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds]);
}

interface Pages<T> {
  items: readonly T[] | null;
  /** Adds the next page; null after the last one. */
  readMore: (() => Promise<void>) | null;
}

/** A list read page by page, the first immediately. A problem of the first is shown under `doing`. */
export function usePages<T>(
  doing: string,
  load: (token: string | undefined, signal: AbortSignal) => Promise<{ items: readonly T[]; next_page_token: string | null }>,
  dependencies: readonly unknown[],
): Pages<T> {
  const [more, setMore] = useState<{ of: unknown; items: readonly T[]; token: string | null } | null>(null);
  const [first] = useAnswer(doing, (signal) => load(undefined, signal), dependencies);
  const current = useRef(first);
  current.current = first;
  if (first === null) return { items: null, readMore: null };
  const known = more !== null && more.of === first ? more : { of: first, items: first.items, token: first.next_page_token };
  const readMore = async () => {
    const page = await load(known.token!, new AbortController().signal);
    if (current.current !== first) return; // another search has been answered meanwhile
    setMore({ of: first, items: [...known.items, ...page.items], token: page.next_page_token });
  };
  return { items: known.items, readMore: known.token === null ? null : readMore };
}

/** A function that calls `action` so long after its last call. */
export function useLater(milliseconds: number, action: () => void): () => void {
  const latest = useRef(action);
  latest.current = action;
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback(() => {
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => latest.current(), milliseconds);
  }, [milliseconds]);
}
