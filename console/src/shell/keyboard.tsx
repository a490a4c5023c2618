// Keys of the whole console: `/` searches, `g` and a letter goes to a page, `?` lists them.

import { mayOpen } from "../lib/caller.ts";
import { openDialog } from "../lib/dialog.tsx";

const PAGES: Record<string, readonly [string, string]> = {
  a: ["Adapters", "#/adapters"],
  c: ["Cache", "#/cache"],
  h: ["History", "#/history"],
  t: ["Try it", "#/try"],
  m: ["Compare", "#/compare"],
  e: ["Events", "#/events"],
  v: ["Versions", "#/versions"],
  p: ["Publish", "#/publish"],
  j: ["Jobs", "#/jobs"],
  i: ["Pins", "#/pins"],
  k: ["Keys", "#/keys"],
  n: ["Tenants", "#/tenants"],
  w: ["Webhooks", "#/webhooks"],
  z: ["Sizing", "#/sizing"],
  s: ["Server", "#/server"],
};
const CHORD_MS = 1500;

export function setUpKeyboard(): void {
  let chordUntil = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const isChord = performance.now() < chordUntil;
    chordUntil = 0;
    if (isChord && PAGES[event.key] && isOpen(PAGES[event.key]!)) {
      event.preventDefault();
      location.hash = PAGES[event.key]![1];
    } else if (event.key === "g") {
      chordUntil = performance.now() + CHORD_MS;
    } else if (event.key === "/") {
      event.preventDefault();
      search();
    } else if (event.key === "?") {
      event.preventDefault();
      void openDialog<true>("Keyboard", (close) => <Help close={() => close(true)} />);
    }
  });
}

function isOpen([, target]: readonly [string, string]): boolean {
  return mayOpen(target.slice(2));
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}

/** The page's own search, or that of the adapters. */
function search(): void {
  const own = document.querySelector<HTMLElement>("#content [type=search], #content form input");
  if (own) return own.focus();
  location.hash = "#/adapters";
  setTimeout(() => document.getElementById("search")?.focus(), 100);
}

function Help({ close }: { close: () => void }) {
  const rows: [string[], string][] = [
    [["/"], "Search"],
    [["?"], "This list"],
    [["Esc"], "Close a dialog"],
    ...Object.entries(PAGES).filter(([, page]) => isOpen(page)).map(([letter, [name]]): [string[], string] => [["g", letter], name]),
  ];
  return (
    <div class="help">
      <dl class="facts-list">
        {rows.map(([keys, what]) => (
          <div key={what}>
            <dt>
              {keys.map((each) => (
                <kbd key={each}>{each}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <div class="row end">
        <button type="button" onClick={close}>
          Close
        </button>
      </div>
    </div>
  );
}
