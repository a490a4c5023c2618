// The shell: routing, colours, API key.

import { key } from "./api.js";
import { adaptersPage } from "./adapters-page.js";
import { adapterPage } from "./adapter-page.js";
import { cachePage } from "./cache-page.js";
import { fill, h, link, setText } from "./dom.js";
import { eventsPage } from "./events-page.js";
import { askForKey } from "./key-dialog.js";
import { clearNotices, showProblem, clearProblem } from "./notices.js";
import { tryPage } from "./try-page.js";

const PAGES = [
  { path: /^\/?$|^\/cache$/, nav: "#/cache", title: "Cache", show: cachePage },
  { path: /^\/adapters$/, nav: "#/adapters", title: "Adapters", show: adaptersPage },
  { path: /^\/adapters\/([^/]+)$/, nav: "#/adapters", title: "Adapter", show: adapterPage },
  { path: /^\/try$/, nav: "#/try", title: "Try it", show: tryPage },
  { path: /^\/events$/, nav: "#/events", title: "Events", show: eventsPage },
];
const LINK_STATES = {
  live: "live",
  paused: "paused while hidden",
  waiting: "reconnecting …",
  refused: "no live updates",
};

const content = document.getElementById("content");
const linkState = document.getElementById("link-state");
let leaving = new AbortController();
let shownPath = null;

/** `#/adapters/upper?version=2` as its path and its query. */
function address() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?", 2);
  return { path, query: new URLSearchParams(query) };
}

function show() {
  const { path, query } = address();
  const page = PAGES.find((each) => each.path.test(path));
  leaving.abort();
  leaving = new AbortController();
  showLinkState(null);
  markCurrent(page?.nav);
  document.title = `${page?.title ?? "Not found"} · Adaptry`;
  if (path !== shownPath) clearNotices();
  fill(content);
  if (!page) fill(content, notFound(path));
  else open(page, decoded(page.path.exec(path)[1]), query);
  if (shownPath !== null && path !== shownPath) moveFocus();
  shownPath = path;
}

function decoded(text) {
  try {
    return text === undefined ? null : decodeURIComponent(text);
  } catch {
    return text;
  }
}

function open(page, name, query) {
  const { signal } = leaving;
  const onLinkState = (state, problem) => {
    if (signal.aborted) return;
    showLinkState(state);
    if (state === "live") clearProblem("Live updates");
    if (problem && state === "refused") showProblem(problem, "Live updates");
    if (problem && problem.status === 503) showProblem(problem, "Live updates");
  };
  Promise.resolve(page.show({ root: content, name, query, signal, onLinkState })).catch((error) =>
    showProblem(error, page.title),
  );
}

function showLinkState(state) {
  linkState.dataset.state = state ?? "none";
  setText(linkState, LINK_STATES[state] ?? "");
}

function markCurrent(nav) {
  for (const each of document.querySelectorAll(".bar nav a")) {
    if (each.getAttribute("href") === nav) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
}

function moveFocus() {
  window.scrollTo(0, 0);
  content.focus({ preventScroll: true });
}

function notFound(path) {
  return [
    h("h1", {}, "No such page"),
    h("p", {}, `There is nothing at ${path}. `, link("To the cache", "#/cache")),
  ];
}

const THEMES = ["system", "light", "dark"];
const THEME_NAMES = { system: "◐ Auto", light: "○ Light", dark: "● Dark" };

function setUpTheme() {
  const toggle = document.getElementById("theme");
  const chosen = () => document.documentElement.dataset.theme ?? "system";
  const label = () => {
    setText(toggle, THEME_NAMES[chosen()]);
    toggle.setAttribute("aria-label", `Colours: ${chosen()}`);
  };
  toggle.addEventListener("click", () => {
    chooseTheme(THEMES[(THEMES.indexOf(chosen()) + 1) % THEMES.length]);
    label();
  });
  label();
}

function chooseTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("adaptry.theme", theme);
}

function setUpKey() {
  const opener = document.getElementById("key");
  const label = () => setText(opener, key.get() ? "API key ✓" : "API key");
  opener.addEventListener("click", async () => {
    if (await askForKey()) show();
    label();
  });
  label();
}

setUpTheme();
setUpKey();
window.addEventListener("hashchange", show);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the page's address
  content.focus();
});
show();
