// What screen readers and keyboards miss in the theme's markup, some of which the theme makes in
// the browser. tests/docs/test_site_accessibility.py holds it.

const each = (selector, change) => document.querySelectorAll(selector).forEach(change);

function mend() {
  each(".md-search[role=dialog]", (search) => search.setAttribute("aria-label", "Search"));
  each(".md-code__nav", (buttons) => buttons.setAttribute("role", "none")); // it leads nowhere
  each(".md-typeset__scrollwrap", (table) => (table.tabIndex = 0)); // arrow keys scroll it
  each(".md-nav[aria-labelledby]", (nav) => {
    nav.setAttribute("aria-label", nav.querySelector(".md-nav__title").textContent.trim());
    nav.removeAttribute("aria-labelledby"); // of a section with a page of its own, it has no text
  });
  each("th:empty", (header) => header.replaceWith(document.createElement("td")));
}

mend();
new MutationObserver(mend).observe(document.querySelector(".md-content"), {
  childList: true,
  subtree: true,
});
