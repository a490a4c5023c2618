// The functions without a page, by module: what the tests call in a browser.

export * as api from "./lib/api.ts";
export * as cacheTiers from "./plain/cache-tiers.js";
export * as decisionWindow from "./plain/decision-window.js";
export * as dom from "./plain/dom.js";
export * as format from "./plain/format.js";
export * as metadata from "./plain/metadata.js";
export * as plot from "./plain/plot.js";
export * as sse from "./plain/sse.js";
