// Page: what the shell gives to the component that is one.

export interface PageProps {
  name: string;
  query: URLSearchParams;
  signal: AbortSignal;
  onLinkState: OnLinkState;
}

/** State of the page's stream: `live`, `paused`, `waiting` or `refused`; null: it has none. */
export type OnLinkState = (state: string | null, problem?: Error | null) => void;
