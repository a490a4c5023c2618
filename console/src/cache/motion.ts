// Motion of cells: those that changed their place slide there, those that were looked up flash.

import { useCallback, useLayoutEffect, useRef } from "preact/hooks";

const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const MOVE_MS = 260;
const MOST_MOVING = 120;

type Place = { left: number; top: number };

/** For a list whose items have `data-key`. */
export function useSlides() {
  const list = useRef<HTMLUListElement>(null);
  const before = useRef<ReadonlyMap<string, Place>>(new Map());
  useLayoutEffect(() => {
    const cells = [...(list.current?.children ?? [])] as HTMLElement[];
    if (calm.matches || cells.length > MOST_MOVING) return;
    const now = new Map(cells.map((cell) => [cell.dataset.key!, { left: cell.offsetLeft, top: cell.offsetTop }]));
    if (before.current.size) for (const cell of cells) slide(cell, before.current.get(cell.dataset.key!), now.get(cell.dataset.key!)!);
    before.current = now;
  });
  return list;
}

function slide(cell: HTMLElement, from: Place | undefined, to: Place): void {
  if (!from) cell.animate([{ opacity: 0 }, { opacity: 1 }], { duration: MOVE_MS });
  else if (from.left !== to.left || from.top !== to.top) {
    const translate = `${from.left - to.left}px ${from.top - to.top}px`;
    cell.animate([{ translate }, { translate: "0 0" }], { duration: MOVE_MS, easing: "ease-out" });
  }
}

/** A place of cells, and what shows a hit or a miss on those of a reference. */
export function usePulses<E extends HTMLElement>() {
  const place = useRef<E>(null);
  const pulse = useCallback((reference: string, outcome: string) => {
    if (calm.matches || !place.current) return;
    const name = CSS.escape(reference); // alone, or with its replica after it
    for (const cell of place.current.querySelectorAll<HTMLElement>(`[data-key="${name}"], [data-key^="${name} "]`)) {
      cell.classList.remove("pulse", "pulse-miss");
      void cell.offsetWidth; // restart the animation
      cell.classList.add(outcome === "miss" ? "pulse-miss" : "pulse");
    }
  }, []);
  return [place, pulse] as const;
}
