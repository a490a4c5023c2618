// DOM elements. Children are inserted as text and never parsed: users' input stays text.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `onclick` and the like are listeners, `vars` are CSS custom properties, `false` and
 * null omit an attribute. Children: nodes, texts, numbers, lists of them; null is nothing.
 */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** The same within an SVG. */
export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...contents(children));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "vars") setVariables(element, value);
  else element.setAttribute(name, value === true ? "" : String(value));
}

/** Custom properties are the only styles that scripts set. */
export function setVariables(element, variables) {
  for (const [name, value] of Object.entries(variables)) element.style.setProperty(name, value);
}

function contents(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/** Replaces the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren(...contents(children));
  return element;
}

/** Sets a text only if it differs, so that live regions announce only changes. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes the children of `parent` those of `items`, in order. An element is reused for
 * the same key, so focus and animations survive. `update(element, item)` runs for all of them.
 */
export function keyed(parent, items, key, make, update = () => {}) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    const element = known.get(name) ?? make(item);
    known.delete(name);
    element.dataset.key = name;
    if (element === next) next = next.nextElementSibling;
    else place(parent, element, next);
    update(element, item);
  }
  for (const unused of known.values()) unused.remove();
}

function place(parent, element, before) {
  // moveBefore keeps the focus of what it moves; older browsers don't have it
  if (element.parentNode === parent && parent.moveBefore) parent.moveBefore(element, before);
  else parent.insertBefore(element, before);
}

let lastId = 0;

/** An id for a label or description to refer to. */
export function newId() {
  lastId += 1;
  return `part-${lastId}`;
}

export function field(label, control, hint = null) {
  control.id ||= newId();
  const described = hint === null ? null : h("small", { id: newId() }, hint);
  if (described) control.setAttribute("aria-describedby", described.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, described);
}

export function check(label, control) {
  return h("label", { class: "check" }, control, h("span", {}, label));
}

export function button(text, onclick, more = {}) {
  return h("button", { type: "button", onclick, ...more }, text);
}

export function link(text, href, more = {}) {
  return h("a", { href, ...more }, text);
}

/** `fill` for what may hold the focus: it goes to the element with the same `data-focus`. */
export function refill(element, ...children) {
  const held = element.contains(document.activeElement) && document.activeElement.dataset.focus;
  fill(element, ...children);
  if (held) element.querySelector(`[data-focus="${CSS.escape(held)}"]`)?.focus();
}
