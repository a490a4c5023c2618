// Hit ratio, lookups and load times of the last minutes.

import { percent, power, seconds } from "../lib/format.ts";
import { BUCKET_MS, MINUTE_MS, WINDOW_MS, buckets, loads, lookups, quantile, ratios, type Lookups, type Timed } from "./decision-window.ts";
import { Axis, Dot, Figure, TimeAxis, type Frame } from "./figure.tsx";
import { linear, logarithmic, path, powerTicks, segments, wholeTicks, type Scale } from "./scales.ts";

const MOST_DOTS = 1500;
const OUTCOMES = ["gpu_hit", "host_hit", "miss"] as const;

interface Props {
  decisions: readonly Timed[];
  /** The server's time in milliseconds. */
  now: number;
}

export function Plots({ decisions, now }: Props) {
  const series = buckets(decisions, now);
  return (
    <section class="plots" aria-label="The last five minutes">
      <HitRatio series={series} lastMinute={lookups(decisions.filter((each) => each.time > now - MINUTE_MS))} />
      <Counts series={series} />
      <LoadTimes moves={loads(decisions)} now={now} />
    </section>
  );
}

const RATIOS = [
  ["line-gpu", "in a slot"],
  ["line-memory", "in a slot or host memory"],
] as const;

function HitRatio({ series, lastMinute }: { series: readonly Lookups[]; lastMinute: Lookups }) {
  const { gpu, memory } = ratios(lastMinute);
  const text = gpu === null ? "no lookups" : `${percent(gpu)} in a slot, ${percent(memory)} in memory`;
  return (
    <Figure title="Hit ratio" legend={RATIOS} text={`last minute: ${text}`}>
      {(frame) => {
        const y = linear(0, 1, frame.bottom, frame.top);
        return (
          <>
            <Axis frame={frame} ticks={[0, 0.5, 1]} scale={y} label={percent} />
            <TimeAxis frame={frame} windowMs={WINDOW_MS} />
            <Line mark="line-memory" values={series.map((each) => ratios(each).memory)} frame={frame} y={y} />
            <Line mark="line-gpu" values={series.map((each) => ratios(each).gpu)} frame={frame} y={y} />
          </>
        );
      }}
    </Figure>
  );
}

interface LineProps {
  mark: string;
  values: readonly (number | null)[];
  frame: Frame;
  y: Scale;
}

function Line({ mark, values, frame, y }: LineProps) {
  const width = (frame.right - frame.left) / values.length;
  const points = values.map((value, n) => ({ x: frame.left + (n + 0.5) * width, y: value === null ? null : y(value) }));
  return (
    <>
      {segments(points).map((segment) => (
        <path key={segment[0]!.x} class={mark} d={path(segment)} />
      ))}
    </>
  );
}

const COUNTED = [
  ["bar-gpu_hit", "GPU hit"],
  ["bar-host_hit", "host hit"],
  ["bar-miss", "miss"],
] as const;

function Counts({ series }: { series: readonly Lookups[] }) {
  const total = series.reduce((sum, each) => sum + each.total, 0);
  const rate = total / (WINDOW_MS / MINUTE_MS);
  const ticks = wholeTicks(Math.max(...series.map((each) => each.total)));
  return (
    <Figure title="Lookups per 5 s" legend={COUNTED} text={`${total} in 5 min, ${rate.toFixed(rate < 10 ? 1 : 0)} a minute`}>
      {(frame) => {
        const y = linear(0, ticks.at(-1)!, frame.bottom, frame.top);
        const width = (frame.right - frame.left) / series.length;
        return (
          <>
            <Axis frame={frame} ticks={ticks} scale={y} label={String} />
            <TimeAxis frame={frame} windowMs={WINDOW_MS} />
            {series.map((bucket, n) => (
              <Column key={n} bucket={bucket} x={frame.left + n * width} width={width} y={y} />
            ))}
          </>
        );
      }}
    </Figure>
  );
}

function Column({ bucket, x, width, y }: { bucket: Lookups; x: number; width: number; y: Scale }) {
  if (bucket.total === 0) return null;
  let below = 0;
  const parts = OUTCOMES.map((outcome) => {
    const top = y(below + bucket[outcome]);
    const height = y(below) - top;
    below += bucket[outcome];
    return height > 0 && <rect key={outcome} class={`bar-${outcome}`} x={x + 0.5} y={top} width={width - 1} height={height} />;
  });
  return (
    <g>
      <title>{`${bucket.gpu_hit} GPU hits, ${bucket.host_hit} host hits, ${bucket.miss} misses`}</title>
      {parts}
    </g>
  );
}

const MOVES = [
  ["dot-host", "disk → host memory"],
  ["dot-gpu", "host memory → slot"],
] as const;

function LoadTimes({ moves, now }: { moves: ReturnType<typeof loads>; now: number }) {
  const fromDisk = moves.filter(({ tier }) => tier === "host").map((move) => move.seconds);
  const [half, most] = [0.5, 0.95].map((share) => seconds(quantile(fromDisk, share)));
  const text = fromDisk.length ? `from disk: half within ${half}, 95 % within ${most}` : "no loads from disk";
  const ticks = powerTicks(moves.map((move) => move.seconds));
  const end = Math.floor(now / BUCKET_MS) * BUCKET_MS + BUCKET_MS;
  const shown = moves.filter(({ time }) => time >= end - WINDOW_MS).slice(-MOST_DOTS);
  return (
    <Figure title="Load time" legend={MOVES} text={text}>
      {(frame) => {
        const y = logarithmic(ticks[0]!, ticks.at(-1)!, frame.bottom, frame.top);
        const x = linear(end - WINDOW_MS, end, frame.left, frame.right);
        return (
          <>
            <Axis frame={frame} ticks={ticks} scale={y} label={power} />
            <TimeAxis frame={frame} windowMs={WINDOW_MS} />
            {shown.map((move, n) => (
              <Dot key={n} mark={`dot-${move.tier}`} x={x(move.time)} y={y(move.seconds)} />
            ))}
          </>
        );
      }}
    </Figure>
  );
}
