// The dialog for the API key of servers that require one.

import { key } from "../lib/api.ts";
import { button, field, h } from "./dom.js";
import { openDialog } from "./dialog.js";

/** Resolves to whether it was changed. */
export function askForKey() {
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false" });
  input.value = key.get();
  const hint = "Sent as a bearer token to this server only, and deleted when the tab is closed.";
  return openDialog("API key", (close) => {
    const save = (event) => {
      event.preventDefault();
      key.set(input.value.trim());
      close(true);
    };
    const remove = () => {
      key.set("");
      close(true);
    };
    return h("form", { onsubmit: save }, field("Key", input, hint), buttons(close, remove));
  });
}

function buttons(close, remove) {
  return h(
    "div",
    { class: "row end" },
    key.get() ? button("Remove key", remove) : null,
    button("Cancel", () => close(false)),
    h("button", { class: "primary" }, "Use this key"),
  );
}
