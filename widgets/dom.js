// @ts-check
// Building blocks: elements whose text is text, lists that keep the focus, tabs.

/** @typedef {string | number | boolean | null} Plain */

let made = 0;

/** An id that no other element of the page has. */
export function newId() {
  return `inflab-${++made}`;
}

/**
 * An element; strings become text, never markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** @param {Record<string, Plain>} meta */
export function chips(meta) {
  const row = h("span", { class: "chips" });
  for (const [name, value] of Object.entries(meta)) {
    if (value === "" || value === null) continue; // not every sequence has every label
    row.append(h("span", { class: "chip" }, h("span", { class: "chip-name" }, `${name} `), String(value)));
  }
  return row;
}

/** Scroll inside its box only: scrollIntoView would move the notebook. @param {HTMLElement} box @param {HTMLElement} item */
export function reveal(box, item) {
  const [outer, inner] = [box.getBoundingClientRect(), item.getBoundingClientRect()];
  if (inner.top < outer.top) box.scrollTop += inner.top - outer.top - 4;
  if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom + 4;
}

/**
 * A listbox that keeps the focus and points at its active option, so that redrawing never loses the focus.
 * @param {HTMLElement} box
 * @param {(index: number) => void} [onActive]
 */
export function roving(box, onActive = () => {}) {
  const id = newId();
  let active = 0;
  /** @type {HTMLElement[]} */
  let options = [];
  /** @param {number} index */
  function point(index) {
    options[active]?.classList.remove("active");
    active = Math.max(0, Math.min(options.length - 1, index));
    const option = options[active];
    if (!option) return box.removeAttribute("aria-activedescendant");
    option.classList.add("active");
    box.setAttribute("aria-activedescendant", option.id);
    onActive(active);
  }
  return {
    point,
    active: () => active,
    /** @param {HTMLElement[]} drawn @param {number} index */
    refill(drawn, index) {
      options = drawn;
      options.forEach((option, i) => (option.id = `${id}-${i}`));
      active = 0;
      point(index);
    },
    /** @param {string} step */
    move(step) {
      const to = { up: active - 1, down: active + 1, start: 0, end: options.length - 1 }[step];
      if (to === undefined) return;
      point(to);
      if (options[active]) reveal(box, options[active]);
    },
  };
}

/**
 * An element of a picture; strings become text.
 * @param {string} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {...(Node | string)} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = /** @type {SVGElement} */ (document.createElementNS("http://www.w3.org/2000/svg", tag));
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * A button with a word on it.
 * @param {string} label
 * @param {() => void} act
 * @param {Record<string, string>} [attributes]
 */
export function button(label, act, attributes = {}) {
  const made = h("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", () => made.getAttribute("aria-disabled") === "true" || act());
  return made;
}

/**
 * Panels behind tabs (ARIA authoring practices: arrows move and show, Tab goes into the panel).
 * @param {string} label
 * @param {{name: string, title: string, root: HTMLElement}[]} panels
 * @param {(name: string) => void} [onShow]
 */
export function tabs(label, panels, onShow = () => {}) {
  const list = h("div", { role: "tablist", "aria-label": label, class: "tabs" });
  const root = h("div", { class: "tabbed" }, list);
  let shown = "";
  const heads = panels.map(({ name, title, root: panel }, i) => {
    const [tab, box] = [newId(), newId()];
    const head = h("button", { type: "button", role: "tab", id: tab, "aria-controls": box, class: "tab" }, title);
    head.addEventListener("click", () => show(name));
    head.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: panels.length - 1 }[event.key];
      if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const next = (to + panels.length) % panels.length;
      show(panels[next].name);
      heads[next].focus();
    });
    const holder = h("div", { role: "tabpanel", id: box, "aria-labelledby": tab, class: `panel panel-${name}` }, panel);
    list.append(head);
    root.append(holder);
    return head;
  });
  /** @param {string} name */
  function show(name) {
    if (!panels.some((panel) => panel.name === name)) return;
    panels.forEach((panel, i) => {
      const isShown = panel.name === name;
      heads[i].setAttribute("aria-selected", String(isShown));
      heads[i].setAttribute("tabindex", isShown ? "0" : "-1");
      root.children[i + 1].toggleAttribute("hidden", !isShown);
    });
    if (name !== shown) onShow((shown = name));
  }
  return { root, show, shown: () => shown };
}
