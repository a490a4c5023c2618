// Page: what the shell gives one, and how a component becomes one.

import { h, render, type ComponentType } from "preact";

export interface PageProps {
  name: string;
  query: URLSearchParams;
  signal: AbortSignal;
  onLinkState: (state: string | null, problem?: Error | null) => void;
}

export type Show = (given: PageProps & { root: HTMLElement }) => void | Promise<void>;

export function pageOf(Component: ComponentType<PageProps>): Show {
  return ({ root, ...props }) => {
    render(h(Component, props), root);
    props.signal.addEventListener("abort", () => render(null, root), { once: true });
  };
}
