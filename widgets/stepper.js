// @ts-check
// Stepping through a query batch: buttons, a place to jump to, search in the queries, the query itself.
import { button, chips, h, newId, roving } from "./dom.js";
import { inWords, newest, widget } from "./host.js";

/** @typedef {import("./dom.js").Plain} Plain */
/** @typedef {{id: Plain, prompt: string, completion: string, meta: Record<string, Plain>}} QueryCard */
/** @typedef {{matches: {position: number, label: string}[], positions: number[], of: number}} QueryMatches */

const STEPPER_BUTTONS = /** @type {const} */ ([["first", "⏮", "First query"], ["previous", "◀", "Previous query"], ["next", "▶", "Next query"], ["last", "⏭", "Last query"]]);

/** Where a step leads, within the batch. @param {string} step @param {number} position @param {number} count */
export function stepTo(step, position, count) {
  const to = { first: 0, previous: position - 1, next: position + 1, last: count - 1 }[step] ?? position;
  return Math.max(0, Math.min(count - 1, to));
}

/** What was typed as a place in the batch, counted from 0; null when it is none. @param {string} typed @param {number} count */
export function typedPlace(typed, count) {
  const place = Number(typed);
  return typed.trim() !== "" && Number.isInteger(place) && place >= 1 && place <= count ? place - 1 : null;
}

/** Buttons, "3 / 100", and a field to jump. @param {{onStep: (position: number) => void}} actions */
export function stepper({ onStep }) {
  const place = h("output", { "aria-live": "polite", "aria-label": "Position in the query batch" });
  let [now, of] = [0, 1];
  const buttons = STEPPER_BUTTONS.map(([step, sign, label]) => {
    const made = button("", () => onStep(stepTo(step, now, of)), { "aria-label": label, title: label, class: "step" });
    made.append(h("span", { "aria-hidden": "true" }, `${sign}\ufe0e`));
    return made;
  });
  const jump = h("input", { type: "number", min: "1", class: "jump", "aria-label": "Go to query", placeholder: "go to" });
  jump.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const to = typedPlace(jump.value, of);
    jump.setAttribute("aria-invalid", String(to === null));
    if (to === null) return;
    jump.value = "";
    onStep(to);
  });
  return {
    root: h("div", { class: "stepper" }, h("span", { class: "stepper-label" }, "Query"), buttons[0], buttons[1], place, buttons[2], buttons[3], jump),
    /** @param {number} position @param {number} count */
    update(position, count) {
      [now, of] = [position, count];
      place.textContent = `${position + 1} / ${count}`;
      jump.max = String(count);
      // aria-disabled, not disabled: a disabled button would drop the focus at the end of the batch.
      buttons.forEach((one, i) => one.setAttribute("aria-disabled", String(i < 2 ? position <= 0 : position >= count - 1)));
    },
  };
}

/** Prompt and marked completion, with what is known of them. */
export function queryCard() {
  const text = h("p", { class: "query-text", dir: "auto" });
  const about = h("div", { class: "query-about" });
  return {
    root: h("section", { class: "query", "aria-label": "Query" }, text, about),
    /** @param {QueryCard} query */
    update(query) {
      const space = /^\s*/.exec(query.completion)?.[0] ?? "";
      text.replaceChildren(query.prompt + space, h("mark", {}, query.completion.slice(space.length)));
      // Reached by Tab only when there is something to scroll.
      if (text.scrollHeight > text.clientHeight + 1) {
        for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", "Text of the query"]]) text.setAttribute(name, value);
      } else for (const name of ["tabindex", "role", "aria-label"]) text.removeAttribute(name);
      text.scrollTop = 0;
      about.replaceChildren(chips({ query: query.id, ...query.meta }));
    },
  };
}

/**
 * Search in the queries: as one types, the matches; Enter or a click goes there.
 * @param {{ask: import("./host.js").Ask, onStep: (position: number) => void}} actions
 */
export function querySearch({ ask, onStep }) {
  const question = newest(ask);
  const [listId, field] = [newId(), h("input", { type: "search", class: "search", "aria-label": "Search in the queries", placeholder: "search in the queries", role: "combobox", "aria-expanded": "false", "aria-autocomplete": "list" })];
  field.setAttribute("aria-controls", listId);
  const list = h("div", { role: "listbox", id: listId, class: "query-matches", "aria-label": "Matching queries", hidden: "" });
  const said = h("span", { class: "soft query-found", "aria-live": "polite" });
  const rover = roving(list, () => {
    const active = list.getAttribute("aria-activedescendant");
    active && !list.hidden ? field.setAttribute("aria-activedescendant", active) : field.removeAttribute("aria-activedescendant");
  });
  /** @type {QueryMatches | null} */
  let found = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let patience;

  /** @param {boolean} isOpen */
  function open(isOpen) {
    list.hidden = !isOpen;
    field.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) field.removeAttribute("aria-activedescendant");
  }
  async function search() {
    try {
      const answer = await question("query.search", { text: field.value });
      if (answer === undefined) return;
      found = answer;
      draw(answer);
    } catch (error) {
      said.textContent = inWords(error);
    }
  }
  /** @param {QueryMatches} answer */
  function draw({ matches, positions, of }) {
    const isEmpty = field.value.trim() === "";
    said.textContent = isEmpty ? "" : `${positions.length} of ${of}`;
    const options = matches.map(({ position, label }) => {
      const option = h("div", { role: "option", "aria-selected": "false", class: "query-match", dir: "auto" }, h("span", { class: "rank" }, String(position + 1)), ` ${label}`);
      option.addEventListener("mousedown", (event) => (event.preventDefault(), go(position)));
      return option;
    });
    list.replaceChildren(...options);
    rover.refill(options, 0);
    open(!isEmpty && options.length > 0);
    if (!list.hidden) rover.point(0);
  }
  /** @param {number} position */
  function go(position) {
    open(false);
    onStep(position);
  }
  field.addEventListener("input", () => {
    clearTimeout(patience);
    patience = setTimeout(search, 120);
  });
  field.addEventListener("blur", () => open(false));
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "down", ArrowUp: "up" }[event.key];
    if (step) {
      event.preventDefault();
      if (list.hidden && found?.matches.length) open(true);
      rover.move(step);
    } else if (event.key === "Enter") {
      const match = found?.matches[rover.active()];
      if (match && field.value.trim() !== "") go(match.position);
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      event.stopPropagation();
      open(false);
    }
  });
  return { root: h("div", { class: "query-search" }, field, list, said), cleanUp: () => clearTimeout(patience) };
}

/** @param {import("./host.js").Host} host @returns {import("./host.js").Built} */
function stepperAlone({ model, ask, set, root }) {
  /** @param {number} position */
  const onStep = (position) => position !== model.get("position") && set({ position });
  const [steps, search, card] = [stepper({ onStep }), querySearch({ ask, onStep }), queryCard()];
  const draw = () => steps.update(model.get("position"), model.get("_count"));
  const drawCard = () => (card.update(model.get("_query")), draw());
  return {
    children: [h("div", { class: "bar-top" }, steps.root, search.root), card.root],
    listeners: { "change:position": draw, "change:_query": drawCard },
    onKey(event) {
      const isHere = event.target === root || /** @type {HTMLElement} */ (event.target).closest(".query-text");
      const step = { ArrowLeft: "previous", ArrowRight: "next", Home: "first", End: "last" }[event.key];
      if (!step || !isHere || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return false;
      onStep(stepTo(step, model.get("position"), model.get("_count")));
      return true;
    },
    start: drawCard,
    cleanUp: search.cleanUp,
  };
}

export default widget("stepper-alone", "Query stepper", stepperAlone);
