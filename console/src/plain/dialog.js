// Modal dialogs with the browser's own element: Escape closes them, focus stays inside and is restored.

import { h, newId } from "./dom.js";

/** `make(close)` gives the content; resolves to what `close` was called with, or false. */
export function openDialog(title, make) {
  return new Promise((resolve) => {
    const heading = h("h2", { id: newId() }, title);
    const dialog = h("dialog", { "aria-labelledby": heading.id }, heading);
    let answer = false;
    const close = (value) => {
      answer = value;
      dialog.close();
    };
    dialog.append(make(close));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
