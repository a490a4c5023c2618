// Asks for the key that servers started with `--api-key` want.

import { key } from "./api.js";
import { button, field, h } from "./dom.js";
import { openDialog } from "./dialog.js";

/** Resolves to whether it was changed. */
export function askForKey() {
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false" });
  input.value = key.get();
  const hint = "Sent as a bearer token to this server only, and forgotten when the tab is closed.";
  return openDialog("API key", (close) => {
    const save = (event) => {
      event.preventDefault();
      key.set(input.value.trim());
      close(true);
    };
    const forget = () => {
      key.set("");
      close(true);
    };
    return h("form", { onsubmit: save }, field("Key", input, hint), buttons(close, forget));
  });
}

function buttons(close, forget) {
  return h(
    "div",
    { class: "row end" },
    key.get() ? button("Forget it", forget) : null,
    button("Cancel", () => close(false)),
    h("button", { class: "primary" }, "Use this key"),
  );
}
