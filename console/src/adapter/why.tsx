// Why a version is where it is: the server's own explanation.

import { useEffect, useRef } from "preact/hooks";
import { showProblem } from "../lib/notices.ts";
import { showWhy } from "../plain/why.js";

export function Why({ reference }: { reference: string }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const leaving = new AbortController();
    showWhy(place.current!, reference, leaving.signal).catch((error: unknown) => showProblem(error, "Why"));
    return () => leaving.abort();
  }, [reference]);
  return <div class="why" aria-live="polite" ref={place} />;
}
