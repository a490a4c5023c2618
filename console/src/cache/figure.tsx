// Figure: a plot as inline SVG, with a title, its present value in words, axes and a legend.

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { linear, type Scale } from "./scales.ts";

const HEIGHT = 132;
const NARROWEST = 180;
const MARGIN = { left: 46, right: 10, top: 8, bottom: 20 };

/** Where to draw, in pixels of the page: texts keep their size however wide the figure is. */
export interface Frame {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

interface Props {
  title: string;
  legend: readonly (readonly [mark: string, text: string])[];
  /** What it shows in words, for those who can't see it too. */
  text: string;
  children: (frame: Frame) => ComponentChildren;
}

export function Figure({ title, legend, text, children }: Props) {
  const picture = useRef<SVGSVGElement>(null);
  const width = useWidth(picture);
  const { left, right, top, bottom } = MARGIN;
  return (
    <figure class="plot">
      <figcaption>
        <h3>{title}</h3>
        <p class="now">{text}</p>
      </figcaption>
      <svg ref={picture} role="img" height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} aria-label={text}>
        {children({ left, right: width - right, top, bottom: HEIGHT - bottom })}
      </svg>
      <ul class="legend">
        {legend.map(([mark, meaning]) => (
          <li key={mark}>
            <svg viewBox="0 0 14 10" aria-hidden="true">
              <Sample mark={mark} />
            </svg>
            {meaning}
          </li>
        ))}
      </ul>
    </figure>
  );
}

function useWidth(element: { current: Element | null }): number {
  const [width, setWidth] = useState(400);
  useLayoutEffect(() => {
    const look = () => setWidth(Math.max(NARROWEST, element.current!.clientWidth || 400));
    const watch = new ResizeObserver(look);
    watch.observe(element.current!);
    look();
    return () => watch.disconnect();
  }, []);
  return width;
}

function Sample({ mark }: { mark: string }) {
  if (mark.startsWith("line")) return <path class={mark} d="M0 5H14" />;
  if (mark.startsWith("dot")) return <Dot mark={mark} x={7} y={5} />;
  return <rect class={mark} width={14} height={10} />;
}

/** Round or square: distinguishable without colour. */
export function Dot({ mark, x, y }: { mark: string; x: number; y: number }) {
  if (mark === "dot-host") return <circle class={mark} cx={x} cy={y} r={2.6} />;
  return <rect class={mark} x={x - 2.2} y={y - 2.2} width={4.4} height={4.4} />;
}

interface AxisProps {
  frame: Frame;
  ticks: readonly number[];
  scale: Scale;
  label: (value: number) => string;
}

/** Lines and labels for the values of a vertical axis. */
export function Axis({ frame, ticks, scale, label }: AxisProps) {
  return (
    <>
      {ticks.map((tick) => (
        <g key={tick}>
          <path class="grid" d={`M${frame.left} ${scale(tick)}H${frame.right}`} />
          <text class="tick" x={frame.left - 6} y={scale(tick) + 3.5} text-anchor="end">
            {label(tick)}
          </text>
        </g>
      ))}
    </>
  );
}

/** Minutes before now, below. */
export function TimeAxis({ frame, windowMs }: { frame: Frame; windowMs: number }) {
  const minutes = windowMs / 60000;
  const scale = linear(minutes, 0, frame.left, frame.right);
  return (
    <>
      {Array.from({ length: minutes + 1 }, (_, ago) => (
        <text key={ago} class="tick" x={scale(ago)} y={frame.bottom + 14} text-anchor={ago === 0 ? "end" : "middle"}>
          {ago === 0 ? "now" : `−${ago}${ago === minutes ? " min" : ""}`}
        </text>
      ))}
    </>
  );
}

/** Numbers of places, doubling, below. */
export function PlaceAxis({ frame, most, scale }: { frame: Frame; most: number; scale: Scale }) {
  const ticks = Array.from({ length: Math.floor(Math.log2(most)) + 1 }, (_, n) => 2 ** n);
  return (
    <>
      {ticks.map((tick) => (
        <text key={tick} class="tick" x={scale(tick)} y={frame.bottom + 14} text-anchor="middle">
          {tick}
        </text>
      ))}
    </>
  );
}
