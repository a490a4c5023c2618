// The history page: what was in the slots at a time, who evicted whom, and who waited.

import { useEffect, useState } from "preact/hooks";
import { remember } from "../lib/address.ts";
import { Problem, request, serverNow, type Schema } from "../lib/api.ts";
import { Field } from "../lib/form.tsx";
import { useAnswer, useInterval } from "../lib/hooks.ts";
import type { PageProps } from "../lib/page.ts";
import { zone } from "../lib/time.tsx";
import { moment } from "../lib/format.ts";
import { Moment } from "./moment.tsx";
import { clamp, HOUR, iso, local, MINUTE, parse, SOON_MS } from "./times.ts";
import { Timeline } from "./timeline.tsx";

type History = Schema["HistoryRead"];
type Off = { off: string; isSetting: boolean };
/** A link to a server whose history was deleted; `servers`: those that have one. */
type Gone = { gone: string; servers: string[] };

const MOST_REPLICAS = 6;
const REFRESH_MS = 60_000;
const RANGES: readonly (readonly [string, number])[] = [
  ["day", 24 * HOUR],
  ["6 hours", 6 * HOUR],
  ["hour", HOUR],
];

export function HistoryPage({ query }: PageProps) {
  const [at, setAt] = useState(() => parse(query.get("at")) ?? clamp(serverNow(), 0, serverNow()));
  const [server, setServer] = useState(query.get("server") ?? "");
  const [chosen, choose] = useState<string | null>(query.get("adapter"));
  const [showsAll, showAll] = useState(false);
  const [{ range, middle }, show] = useState({ range: 24 * HOUR, middle: at });
  const [history, refresh] = useAnswer("History", (signal) => readHistory(server, range, middle, signal), [server, range, middle]);
  useInterval(REFRESH_MS, refresh);
  useEffect(() => {
    const keep = () => remember("/history", { at: iso(at), server, adapter: chosen ?? "" });
    const timer = setTimeout(keep, SOON_MS); // browsers refuse addresses that change too often
    return () => clearTimeout(timer);
  }, [at, server, chosen]);
  if (!history) return <h1>History</h1>;
  if ("off" in history) return <NotKept {...history} />;
  if ("gone" in history) return <NoServer why={history.gone} servers={history.servers} choose={setServer} />;
  const all = history.replicas.length > 1 ? history.replicas : [];
  const replicas = showsAll ? all : nearest(all, history.server);
  const oldest = serverNow() - history.keep_hours * HOUR;
  const go = (time: number) => {
    const chosenTime = clamp(time, oldest, serverNow());
    setAt(chosenTime);
    const isShown = chosenTime >= Date.parse(history.since) && chosenTime <= Date.parse(history.until);
    if (!isShown) show({ range, middle: chosenTime });
  };
  const shown = clamp(at, oldest, serverNow());
  const now = () => {
    const time = clamp(serverNow(), 0, serverNow());
    setAt(time);
    show({ range, middle: time });
  };
  const write = (text: string, isWritten: boolean) => {
    const time = new Date(text).getTime();
    if (Number.isNaN(time) || local(time) === local(shown)) return;
    const isKept = time >= oldest && time <= serverNow(); // else it may be the first digit of a day
    if (isKept || isWritten) go(time);
  };
  return (
    <>
      <div class="page-head">
        <h1>History</h1>
        <p class="minute">
          {moment(iso(shown))} {zone(new Date(shown))} on {all.length ? `${all.length} replicas` : history.server}
        </p>
      </div>
      <div class="filters past-time">
        <Field label={`Time (${zone(new Date(shown))})`}>
          <input
            type="datetime-local"
            step="1"
            value={local(shown)}
            onChange={(event) => write(event.currentTarget.value, false)}
            onBlur={(event) => {
              write(event.currentTarget.value, true);
              event.currentTarget.value = local(shown); // what is not followed by another time
            }}
          />
        </Field>
        <Field label="Range">
          <select value={String(range)} onChange={(event) => show({ range: Number(event.currentTarget.value), middle: shown })}>
            {RANGES.map(([name, span]) => (
              <option key={name} value={String(span)}>
                {span === 24 * HOUR ? "the last day" : `the ${name} around it`}
              </option>
            ))}
          </select>
        </Field>
        {history.servers.length > 1 && (
          <Field label="Server">
            <select value={history.server} onChange={(event) => setServer(event.currentTarget.value)}>
              {history.servers.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </Field>
        )}
        <p class="row">
          <button type="button" onClick={now}>
            Now
          </button>
          {history.grafana && <a href={dashboard(history.grafana, shown)}>Grafana at this time</a>}
        </p>
      </div>
      <Timeline history={{ ...history, replicas }} at={shown} onChange={go} />
      {replicas.length < all.length && (
        <p class="row">
          {replicas.length} of {all.length} replicas are shown; <em>Server</em> chooses another one.
          <button type="button" onClick={() => showAll(true)}>
            Show all
          </button>
        </p>
      )}
      <p class="faint">← and → move by 10 s, with Shift by 10 min, Page Up and Page Down by an hour.</p>
      {replicas.length ? (
        <div class="replicas">
          {replicas.map((name) => (
            <section key={name} aria-label={name}>
              <h2 class="replica-name">{name}</h2>
              <Moment {...{ at: shown, oldest, chosen, choose, go }} server={name} of={name} />
            </section>
          ))}
        </div>
      ) : (
        <Moment key={history.server} {...{ at: shown, oldest, chosen, choose, go }} server={history.server} of={null} />
      )}
    </>
  );
}

/** A few of many: each takes three requests whenever the time changes. */
function nearest(replicas: string[], chosen: string): string[] {
  const first = Math.max(0, Math.min(replicas.indexOf(chosen), replicas.length - MOST_REPLICAS));
  return replicas.slice(first, first + MOST_REPLICAS);
}

async function readHistory(server: string, range: number, middle: number, signal: AbortSignal): Promise<History | Off | Gone> {
  const now = serverNow();
  const until = range === 24 * HOUR ? now : Math.min(now, middle + range / 2);
  const query = { server: server || undefined, from: iso(until - range), to: iso(until) };
  try {
    return await request("get", "/api/v1/cache/history", { query, signal });
  } catch (error) {
    if (error instanceof Problem && ["history_off", "engine_unavailable"].includes(error.code ?? "")) {
      return { off: `${error.message}.`, isSetting: error.code === "history_off" };
    }
    if (error instanceof Problem && error.code === "unknown_server" && server) {
      const own = await request("get", "/api/v1/cache/history", { query: {}, signal });
      return { gone: `${error.message}.`, servers: own.servers };
    }
    if (error instanceof Problem && error.code === "time_out_of_range") {
      return request("get", "/api/v1/cache/history", { query: { server: server || undefined }, signal });
    }
    throw error;
  }
}

function dashboard(grafana: string, at: number): string {
  return `${grafana}?from=${at - 15 * MINUTE}&to=${at + 15 * MINUTE}`;
}

function NotKept({ off, isSetting }: Off) {
  return (
    <>
      <h1>History</h1>
      <p>{off}</p>
      <p>
        {isSetting ? (
          <>
            Start the server with <code>ADAPTRY_HISTORY_HOURS=24</code> to keep the last day.
          </>
        ) : (
          "This page asks again every minute."
        )}{" "}
        <a href="#/cache">To the cache as it is now</a>
      </p>
    </>
  );
}

function NoServer({ why, servers, choose }: { why: string; servers: string[]; choose: (server: string) => void }) {
  return (
    <>
      <h1>History</h1>
      <p>{why}</p>
      <p class="row">
        {servers.map((name) => (
          <button key={name} type="button" onClick={() => choose(name)}>
            History of {name}
          </button>
        ))}
      </p>
    </>
  );
}
