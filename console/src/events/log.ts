// Log: the events that meet filters, newest first: the stream's, and older ones page by page.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { request, type Schema } from "../lib/api.ts";
import { announce, showProblem } from "../lib/notices.tsx";
import type { OnLinkState } from "../lib/page.ts";
import { follow } from "../lib/sse.ts";
import { sentenceOf } from "./event.tsx";

type Event = Schema["EventRead"];
type Kind = Schema["EventKind"];

const PAGE = 50;
const MOST_LIVE = 500; // a page that stays open for days grows no further

/** Empty: any. */
export interface Filters {
  adapter: string;
  kind: string;
  actor: string;
  since: string;
}

interface Log {
  events: readonly Event[];
  /** Events with a higher id have come while the page was open. */
  freshest: number;
  readOlder: (() => Promise<void>) | null;
  /** In place of the button for older ones. */
  end: string;
}

/** The stream first, so that no event is lost between it and the pages. */
export function useLog(filters: Filters, signal: AbortSignal, onLinkState: OnLinkState): Log {
  const [events, setEvents] = useState<readonly Event[]>([]);
  const [freshest, setFreshest] = useState(Infinity);
  const [token, setToken] = useState<string | null | undefined>(undefined); // null: no more, undefined: not known yet
  const [end, setEnd] = useState("Loading …");
  const known = useRef(new Set<number>());
  const list = useRef<readonly Event[]>([]);
  const live = useRef(0);
  const leaving = useRef(signal);
  const show = useCallback((all: readonly Event[]) => setEvents((list.current = all)), []);
  const areNew = useCallback((found: readonly Event[]) => found.filter(({ id }) => !known.current.has(id) && known.current.add(id)), []);
  const onLive = useCallback((event: Event) => {
    if (!areNew([event]).length) return;
    show([event, ...list.current]);
    announce(`${event.kind}: ${sentenceOf(event)}`);
    live.current += 1;
    if (live.current <= MOST_LIVE) return;
    known.current.delete(list.current.at(-1)!.id);
    show(list.current.slice(0, -1));
    setToken(null); // from then on, the log further back is that of a page opened anew
    setEnd("Older events: open the page again, or choose a time.");
  }, []);
  const read = useCallback(async (page_token?: string) => {
    const query = { ...queryOf(filters), since: filters.since || undefined, newest_first: true, limit: PAGE, page_token };
    const page = await request("get", "/api/v1/events", { query, signal: leaving.current });
    show([...list.current, ...areNew(page.items)]);
    setToken(page.next_page_token);
    setEnd(known.current.size ? "No more events." : "No matching events.");
    return page;
  }, []);
  useEffect(() => {
    const left = new AbortController();
    const both = (leaving.current = AbortSignal.any([left.signal, signal]));
    let isRequested = false;
    const first = async () => {
      if (isRequested || both.aborted) return;
      isRequested = true;
      try {
        const { items } = await read();
        setFreshest((before) => Math.min(before, items[0]?.id ?? 0));
      } catch (error) {
        setEnd("");
        if (!both.aborted) showProblem(error, "Events");
      }
    };
    const onMessage = ({ data }: { data: string }) => onLive(JSON.parse(data) as Event);
    const onState = (state: string, problem: Error | null) => {
      if (both.aborted) return;
      onLinkState(state, problem);
      if (state !== "paused") void first(); // also if there is no stream
    };
    void follow("api/v1/events/stream", { query: queryOf(filters), signal: both, onMessage, onState });
    return () => left.abort();
  }, []);
  const readOlder = token ? async () => void (await read(token)) : null;
  return { events, freshest, readOlder, end };
}

function queryOf({ adapter, kind, actor }: Filters) {
  return { adapter: adapter || undefined, kind: kind ? [kind as Kind] : undefined, actor: actor || undefined };
}
