// The last day as bars: lookups above, evictions from slots below, and what is not known hatched.

import { request, type Schema } from "../lib/api.ts";
import { useAnswer } from "../lib/hooks.ts";
import { zone } from "../lib/time.tsx";
import { clock, moment } from "../lib/format.ts";
import { wholeTicks } from "../cache/scales.ts";
import { HOUR, iso, stepOf } from "./times.ts";

type History = Schema["HistoryRead"];
type Bucket = Schema["BucketRead"];

const WIDTH = 1000;
const LOOKUPS = { top: 4, bottom: 76 };
const EVICTIONS = { top: 82, bottom: 112 };
const HEIGHT = 114;
const OUTCOMES = [
  ["hits", "bar-gpu_hit"],
  ["host_hits", "bar-host_hit"],
  ["misses", "bar-miss"],
] as const;

interface Props {
  history: History;
  at: number;
  onChange: (at: number) => void;
}

export function Timeline({ history, at, onChange }: Props) {
  const since = Date.parse(history.since);
  const until = Date.parse(history.until);
  const onKeyDown = (event: KeyboardEvent) => {
    const step = stepOf(event.key, event.shiftKey);
    if (step === null) return;
    event.preventDefault();
    onChange(at + step);
  };
  const replicas = history.replicas.length > 1 ? history.replicas : [history.server];
  return (
    <figure class="plot history-plot">
      <figcaption>
        <span class="row">
          <Key of="bar-gpu_hit" text="GPU hit" />
          <Key of="bar-host_hit" text="host hit" />
          <Key of="bar-miss" text="miss" />
          <Key of="bar-evicted" text="evicted from a slot (below)" />
          <Key of="unknown" text="not known" />
        </span>
        {replicas.length === 1 && <span class="now">{scaleOf(history)}</span>}
      </figcaption>
      {replicas.map((name) =>
        name === history.server ? (
          <Plot key={name} {...{ history, at, onChange }} isNamed={replicas.length > 1} />
        ) : (
          <ReplicaPlot key={name} {...{ history, at, onChange, name }} />
        ),
      )}
      <input
        type="range"
        aria-label="Time"
        aria-valuetext={`${moment(iso(at))} ${zone(new Date(at))}`}
        min={since}
        max={until}
        step="1000"
        value={at}
        onKeyDown={onKeyDown}
        onInput={(event) => onChange(Number(event.currentTarget.value))}
      />
      <p class="history-ends faint">
        {hours(since, until).map((time) => (
          <span key={time}>{clock(time).slice(0, 5)}</span>
        ))}
      </p>
    </figure>
  );
}

/** Of another replica, at the same times. */
function ReplicaPlot({ history, name, ...rest }: Props & { name: string }) {
  const isDay = Date.parse(history.until) - Date.parse(history.since) === 24 * HOUR;
  // a day is the default: a server that keeps less refuses a day that is named
  const query = { server: name, from: isDay ? undefined : history.since, to: history.until };
  const read = (signal: AbortSignal) => request("get", "/api/v1/cache/history", { query, signal });
  const [found] = useAnswer(`History of ${name}`, read, [name, history.since, history.until]);
  return found && <Plot history={found} {...rest} isNamed />;
}

function Plot({ history, at, onChange, isNamed }: Props & { isNamed: boolean }) {
  const since = Date.parse(history.since);
  const until = Date.parse(history.until);
  const x = (time: number) => (WIDTH * (time - since)) / (until - since);
  const pattern = `not-known-${history.replicas.indexOf(history.server) + 1}`;
  const onClick = (event: MouseEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    onChange(since + ((event.clientX - box.left) / box.width) * (until - since));
  };
  return (
    <>
      {isNamed && (
        <p class="plot-name">
          <span class="ref">{history.server}</span> <span class="faint">{scaleOf(history)}</span>
        </p>
      )}
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={summary(history, isNamed)} onClick={onClick}>
        <defs>
          <pattern id={pattern} width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
            <line class="hatch" x1="0" y1="0" x2="0" y2="8" />
          </pattern>
        </defs>
        {history.unknown.map((each) => (
          <rect
            key={each.since}
            fill={`url(#${pattern})`}
            x={x(Date.parse(each.since ?? history.since))}
            width={Math.max(1, x(Date.parse(each.until ?? history.until)) - x(Date.parse(each.since ?? history.since)))}
            y="0"
            height={HEIGHT}
          >
            <title>Nothing is recorded</title>
          </rect>
        ))}
        <Bars history={history} x={x} />
        <line class="grid" x1="0" x2={WIDTH} y1={EVICTIONS.top - 3} y2={EVICTIONS.top - 3} />
        <line class="cursor" x1={x(at)} x2={x(at)} y1="0" y2={HEIGHT} />
      </svg>
    </>
  );
}

function scaleOf({ bucket_seconds: seconds, buckets }: History): string {
  return `lookups in ${seconds / 60} min, at most ${highest(buckets, lookups)}`;
}

function Key({ of, text }: { of: string; text: string }) {
  return (
    <span class="history-key">
      <svg width="10" height="10" aria-hidden="true">
        <rect class={of} width="10" height="10" />
        {of === "unknown" && <path class="hatch" d="M-2 7 7 -2M-2 12 12 -2M3 12 12 3" />}
      </svg>{" "}
      {text}
    </span>
  );
}

function Bars({ history, x }: { history: History; x: (time: number) => number }) {
  const most = wholeTicks(highest(history.buckets, lookups)).at(-1) ?? 1;
  const mostEvicted = Math.max(1, highest(history.buckets, (each) => each.evictions ?? 0));
  const width = Math.max(1, (WIDTH / history.buckets.length) * 0.86);
  const height = (count: number) => ((LOOKUPS.bottom - LOOKUPS.top) * count) / most;
  return (
    <>
      {history.buckets.map((each) => {
        const left = x(Date.parse(each.at));
        const evicted = ((EVICTIONS.bottom - EVICTIONS.top) * (each.evictions ?? 0)) / mostEvicted;
        let below = 0;
        return (
          <g key={each.at}>
            <title>{titleOf(each)}</title>
            {OUTCOMES.map(([name, mark]) => {
              const tall = height(each[name] ?? 0);
              below += tall;
              return tall > 0 && <rect key={name} class={mark} x={left} width={width} y={LOOKUPS.bottom - below} height={tall} />;
            })}
            {evicted > 0 && <rect class="bar-evicted" x={left} width={width} y={EVICTIONS.top} height={evicted} />}
          </g>
        );
      })}
    </>
  );
}

function lookups(bucket: Bucket): number {
  return (bucket.hits ?? 0) + (bucket.host_hits ?? 0) + (bucket.misses ?? 0);
}

function highest(buckets: readonly Bucket[], of: (bucket: Bucket) => number): number {
  return buckets.reduce((most, each) => Math.max(most, of(each)), 0);
}

function titleOf(bucket: Bucket): string {
  const counts = `${bucket.hits} GPU hits, ${bucket.host_hits} host hits, ${bucket.misses} misses, ${bucket.evictions} evicted`;
  return `${clock(bucket.at)}: ${counts}, ${bucket.waits} waited`;
}

function summary({ server, buckets, unknown }: History, isNamed: boolean): string {
  const total = (of: (bucket: Bucket) => number) => buckets.reduce((sum, each) => sum + of(each), 0);
  const gaps = unknown.length ? `; ${unknown.length} times are not known` : "";
  const named = isNamed ? `${server}: ` : "";
  return `${named}${total(lookups)} lookups, ${total((each) => each.misses ?? 0)} misses, ${total((each) => each.evictions ?? 0)} evictions from slots${gaps}`;
}

/** Seven times, the first and the last among them. */
function hours(since: number, until: number): number[] {
  const parts = until - since >= HOUR ? 6 : 2;
  return Array.from({ length: parts + 1 }, (_, n) => since + ((until - since) * n) / parts);
}
