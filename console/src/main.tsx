// The shell: routing and colours.

import { AdaptersPage } from "./adapters/table-page.tsx";
import { AdapterPage } from "./adapter/page.tsx";
import { ComparePage } from "./compare/page.tsx";
import { address } from "./lib/address.ts";
import type { Problem } from "./lib/api.ts";
import { mayOpen } from "./lib/caller.ts";
import { pageOf, type Show } from "./lib/page.ts";
import { JobsPage } from "./manage/jobs.tsx";
import { KeysPage } from "./manage/keys.tsx";
import { PinsPage } from "./manage/pins.tsx";
import { ServerPage } from "./manage/server.tsx";
import { TenantsPage } from "./manage/tenants.tsx";
import { WebhooksPage } from "./manage/webhooks.tsx";
import { PublishPage } from "./publish/page.tsx";
import { setUpKeyboard } from "./shell/keyboard.tsx";
import { setUpSignIn } from "./shell/sign-in.tsx";
import { cachePage } from "./plain/cache-page.js";
import { fill, h, link, setText } from "./plain/dom.js";
import { eventsPage } from "./plain/events-page.js";
import { clearNotices, clearProblem, showProblem } from "./lib/notices.ts";
import { tryPage } from "./plain/try-page.js";
import { versionsPage } from "./plain/versions-page.js";

interface Page {
  path: RegExp;
  nav: string;
  title: string;
  show: Show;
}

const PAGES: readonly Page[] = [
  { path: /^\/?$|^\/cache$/, nav: "#/cache", title: "Cache", show: cachePage },
  { path: /^\/adapters$/, nav: "#/adapters", title: "Adapters", show: pageOf(AdaptersPage) },
  { path: /^\/adapters\/([^/]+)$/, nav: "#/adapters", title: "Adapter", show: pageOf(AdapterPage) },
  { path: /^\/versions$/, nav: "#/adapters", title: "Versions", show: versionsPage },
  { path: /^\/try$/, nav: "#/try", title: "Try it", show: tryPage },
  { path: /^\/publish$/, nav: "#/adapters", title: "Publish", show: pageOf(PublishPage) },
  { path: /^\/compare$/, nav: "#/try", title: "Compare", show: pageOf(ComparePage) },
  { path: /^\/jobs$/, nav: "#/jobs", title: "Jobs", show: pageOf(JobsPage) },
  { path: /^\/pins$/, nav: "#/jobs", title: "Pins", show: pageOf(PinsPage) },
  { path: /^\/keys$/, nav: "#/jobs", title: "Keys", show: pageOf(KeysPage) },
  { path: /^\/tenants$/, nav: "#/jobs", title: "Tenants", show: pageOf(TenantsPage) },
  { path: /^\/webhooks$/, nav: "#/jobs", title: "Webhooks", show: pageOf(WebhooksPage) },
  { path: /^\/server$/, nav: "#/jobs", title: "Server", show: pageOf(ServerPage) },
  { path: /^\/events$/, nav: "#/events", title: "Events", show: eventsPage },
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
  const root = document.createElement("div");
  root.className = "page";
  fill(content, root);
  if (!page) fill(root, notFound(path));
  else if (!mayOpen(path.split("/")[1] || "cache")) fill(root, notAllowed(page.title));
  else open(page, root, decoded(page.path.exec(path)?.[1]), query);
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

function open(page: Page, root: HTMLElement, name: string, query: URLSearchParams): void {
  const { signal } = leaving;
  const onLinkState = (state: string | null, problem: Error | null = null) => {
    if (signal.aborted) return;
    showLinkState(state);
    if (state === "live") clearProblem("Live updates");
    const isLost = state === "refused" || (problem as Problem | null)?.status === 503;
    if (problem && isLost) showProblem(problem, "Live updates");
  };
  Promise.resolve(page.show({ root, name, query, signal, onLinkState })).catch((error) =>
    showProblem(error, page.title),
  );
}

function showLinkState(state: string | null): void {
  linkState.dataset.state = state ?? "none";
  setText(linkState, LINK_STATES[state ?? ""] ?? "");
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

function notFound(path: string) {
  return [
    h("h1", {}, "No such page"),
    h("p", {}, `There is nothing at ${path}. `, link("To the cache", "#/cache")),
  ];
}

function notAllowed(title: string) {
  return [
    h("h1", {}, title),
    h("p", {}, "Your API key doesn't have the scope that this page needs. ", link("To the adapters", "#/adapters")),
  ];
}

const THEMES = ["system", "light", "dark"];
const THEME_NAMES: Record<string, string> = { system: "◐ Auto", light: "○ Light", dark: "● Dark" };

function setUpTheme(): void {
  const toggle = document.getElementById("theme")!;
  const chosen = () => document.documentElement.dataset.theme ?? "system";
  const label = () => {
    setText(toggle, THEME_NAMES[chosen()]);
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
