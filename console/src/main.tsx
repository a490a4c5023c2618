// The shell: routing and colours.

import { render, type ComponentType } from "preact";
import { AdaptersPage } from "./adapters/table-page.tsx";
import { AdapterPage } from "./adapter/page.tsx";
import { ComparePage } from "./compare/page.tsx";
import { CachePage } from "./cache/page.tsx";
import { address } from "./lib/address.ts";
import type { Problem } from "./lib/api.ts";
import { mayOpen } from "./lib/caller.ts";
import type { PageProps } from "./lib/page.ts";
import { EventsPage } from "./events/page.tsx";
import { HistoryPage } from "./history/page.tsx";
import { JobsPage } from "./manage/jobs.tsx";
import { KeysPage } from "./manage/keys.tsx";
import { PinsPage } from "./manage/pins.tsx";
import { ServerPage } from "./manage/server.tsx";
import { TenantsPage } from "./manage/tenants.tsx";
import { WebhooksPage } from "./manage/webhooks.tsx";
import { PublishPage } from "./publish/page.tsx";
import { setUpKeyboard } from "./shell/keyboard.tsx";
import { setUpSignIn } from "./shell/sign-in.tsx";
import { clearNotices, clearProblem, showProblem } from "./lib/notices.tsx";
import { SizingPage } from "./sizing/page.tsx";
import { TryPage } from "./try/page.tsx";
import { VersionsPage } from "./versions/page.tsx";

interface Page {
  path: RegExp;
  nav: string;
  title: string;
  Component: ComponentType<PageProps>;
}

const PAGES: readonly Page[] = [
  { path: /^\/?$|^\/cache$/, nav: "#/cache", title: "Cache", Component: CachePage },
  { path: /^\/history$/, nav: "#/history", title: "History", Component: HistoryPage },
  { path: /^\/sizing$/, nav: "#/cache", title: "Sizing", Component: SizingPage },
  { path: /^\/adapters$/, nav: "#/adapters", title: "Adapters", Component: AdaptersPage },
  { path: /^\/adapters\/([^/]+)$/, nav: "#/adapters", title: "Adapter", Component: AdapterPage },
  { path: /^\/versions$/, nav: "#/adapters", title: "Versions", Component: VersionsPage },
  { path: /^\/try$/, nav: "#/try", title: "Try it", Component: TryPage },
  { path: /^\/publish$/, nav: "#/adapters", title: "Publish", Component: PublishPage },
  { path: /^\/compare$/, nav: "#/try", title: "Compare", Component: ComparePage },
  { path: /^\/jobs$/, nav: "#/jobs", title: "Jobs", Component: JobsPage },
  { path: /^\/pins$/, nav: "#/jobs", title: "Pins", Component: PinsPage },
  { path: /^\/keys$/, nav: "#/jobs", title: "Keys", Component: KeysPage },
  { path: /^\/tenants$/, nav: "#/jobs", title: "Tenants", Component: TenantsPage },
  { path: /^\/webhooks$/, nav: "#/jobs", title: "Webhooks", Component: WebhooksPage },
  { path: /^\/server$/, nav: "#/jobs", title: "Server", Component: ServerPage },
  { path: /^\/events$/, nav: "#/events", title: "Events", Component: EventsPage },
];
const LINK_STATES: Record<string, string> = {
  live: "live",
  paused: "paused while hidden",
  waiting: "reconnecting …",
  refused: "no live updates",
};

const content = document.getElementById("content")!;
const linkState = document.getElementById("link-state")!;
let leaving = new AbortController();
let shownPath: string | null = null;

function show(): void {
  leaving.abort();
  leaving = new AbortController();
  const { path, query } = address();
  const page = PAGES.find((each) => each.path.test(path));
  showLinkState(null);
  markCurrent(page?.nav);
  document.title = `${page?.title ?? "Not found"} · Adaptry`;
  if (shownPath !== null && path !== shownPath) clearNotices();
  render(null, content); // the page before it ends, though it may be the same one
  if (!page) render(<NotFound path={path} />, content);
  else if (!mayOpen(path.split("/")[1] || "cache")) render(<NotAllowed title={page.title} />, content);
  else open(page, decoded(page.path.exec(path)?.[1]), query);
  if (shownPath !== null && path !== shownPath) moveFocus();
  shownPath = path;
}

function decoded(text: string | undefined): string {
  try {
    return decodeURIComponent(text ?? "");
  } catch {
    return text ?? "";
  }
}

function open({ Component }: Page, name: string, query: URLSearchParams): void {
  const { signal } = leaving;
  const onLinkState = (state: string | null, problem: Error | null = null) => {
    if (signal.aborted) return;
    showLinkState(state);
    if (state === "live") clearProblem("Live updates");
    const isLost = state === "refused" || (problem as Problem | null)?.status === 503;
    if (problem && isLost) showProblem(problem, "Live updates");
  };
  render(
    <div class="page">
      <Component name={name} query={query} signal={signal} onLinkState={onLinkState} />
    </div>,
    content,
  );
}

function showLinkState(state: string | null): void {
  linkState.dataset.state = state ?? "none";
  const text = LINK_STATES[state ?? ""] ?? "";
  if (linkState.textContent !== text) linkState.textContent = text; // a live region tells only changes
}

function markCurrent(nav: string | undefined): void {
  for (const each of document.querySelectorAll(".bar nav a")) {
    if (each.getAttribute("href") === nav) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
    each.toggleAttribute("hidden", !mayOpen(each.getAttribute("href")!.slice(2)));
  }
}

function moveFocus(): void {
  window.scrollTo(0, 0);
  content.focus({ preventScroll: true });
}

function NotFound({ path }: { path: string }) {
  return (
    <div class="page">
      <h1>No such page</h1>
      <p>
        There is nothing at {path}. <a href="#/cache">To the cache</a>
      </p>
    </div>
  );
}

function NotAllowed({ title }: { title: string }) {
  return (
    <div class="page">
      <h1>{title}</h1>
      <p>
        Your API key doesn't have the scope that this page needs. <a href="#/adapters">To the adapters</a>
      </p>
    </div>
  );
}

const THEMES = ["system", "light", "dark"];
const THEME_NAMES: Record<string, string> = { system: "◐ Auto", light: "○ Light", dark: "● Dark" };

function setUpTheme(): void {
  const toggle = document.getElementById("theme")!;
  const chosen = () => document.documentElement.dataset.theme ?? "system";
  const label = () => {
    toggle.textContent = THEME_NAMES[chosen()]!;
    toggle.title = "Colours: those of the system, light or dark";
  };
  toggle.addEventListener("click", () => {
    chooseTheme(THEMES[(THEMES.indexOf(chosen()) + 1) % THEMES.length]!);
    label();
  });
  label();
}

function chooseTheme(theme: string): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("adaptry.theme", theme);
}

setUpTheme();
setUpKeyboard();
window.addEventListener("hashchange", show);
document.querySelector(".skip")!.addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the page's address
  content.focus();
});
void setUpSignIn(show).then(show);
