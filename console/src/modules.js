// The functions without a page, by module: what the tests call in a browser.

export * as api from "./lib/api.ts";
export * as cacheCells from "./cache/cells.ts";
export * as decisionWindow from "./cache/decision-window.ts";
export * as dialog from "./lib/dialog.tsx";
export * as format from "./lib/format.ts";
export * as metadata from "./lib/metadata.ts";
export * as scales from "./cache/scales.ts";
export * as sizing from "./sizing/advice.ts";
export * as sse from "./lib/sse.ts";
