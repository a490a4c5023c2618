// Before the page is drawn: the colours chosen last, or those of the system.
"use strict";
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("adaptry.theme");
  } catch {
    // no storage: the system decides
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
