// @ts-check
// Blind rating: one query with one training sequence at a time. What comes from Python is their texts alone.
import { button, h } from "./dom.js";
import { inWords, widget } from "./host.js";

/** @typedef {{place: number, total: number, rated: number, of: number, skipped: number[], next: number, scale: string[], pair: {prompt: string, completion: string, text: string} | null, rating: number | null, note: string}} RatingState */
/** @typedef {"back" | "on" | "skip" | "note" | "leave" | number} RatingCommand a number is a rating */

/**
 * What a key means; null leaves it to the browser.
 * @param {{key: string, ctrlKey?: boolean, metaKey?: boolean, altKey?: boolean, shiftKey?: boolean}} event
 * @param {number} points of the scale
 * @param {boolean} isTyping in the note, where keys are letters
 * @returns {RatingCommand | null}
 */
export function ratingCommand(event, points, isTyping) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return null;
  if (event.key === "Escape") return "leave";
  if (isTyping) return null;
  const number = /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
  if (number) return number <= points ? number : null;
  /** @type {Record<string, RatingCommand>} */
  const table = { ArrowLeft: "back", ArrowRight: "on", s: "skip", n: "note" };
  return Object.hasOwn(table, event.key) ? table[event.key] : null;
}

/** How far the rater is, in words. @param {RatingState} state */
export function ratingProgress(state) {
  const skipped = state.skipped.length ? `, ${state.skipped.length} skipped` : "";
  const done = `${state.rated} of ${state.of} rated${skipped}`;
  return state.pair ? `Pair ${state.place + 1} of ${state.total} · ${done}` : `End of the pairs · ${done}`;
}

/**
 * The view. `open` shows a place; it asks "rating.open", "rating.give", "rating.note", "rating.table".
 * @param {{ask: import("./host.js").Ask, onProblem: (words: string) => void, now?: () => number}} actions
 */
export function ratingView({ ask, onProblem, now = () => performance.now() }) {
  const where = h("output", { "aria-live": "polite" });
  const bar = h("progress", { "aria-label": "Pairs rated" });
  const query = h("p", { class: "rating-text", dir: "auto" });
  const text = h("p", { class: "rating-text", dir: "auto" });
  const scale = h("div", { class: "rating-scale", role: "group", "aria-label": "How relevant is the training sequence to the query?" });
  const note = h("textarea", { rows: "2", "aria-label": "Note on this pair" });
  const body = h("div", { class: "rating-body" },
    h("div", { class: "rating-pair" },
      h("section", { "aria-label": "Query" }, h("p", { class: "rating-name" }, "Query"), query),
      h("section", { "aria-label": "Training sequence" }, h("p", { class: "rating-name" }, "Training sequence"), text)),
    h("p", { class: "rating-question", "aria-hidden": "true" }, "How relevant is the training sequence to the query?"),
    scale,
    h("label", { class: "rating-note" }, h("span", {}, "Note"), note));
  const finished = h("div", { class: "rating-done", hidden: "" });
  const back = button("← Back", () => go(-1));
  const skip = button("Skip (s)", () => give(null));
  const on = button("Next →", () => go(1));
  const steps = h("div", { class: "rating-steps" }, back, skip, on, h("span", { class: "rating-out" },
    button("Save as CSV", () => save("csv")), button("Save as markdown", () => save("markdown"))));
  const root = h("section", { class: "rating", "aria-label": "Rating" }, h("div", { class: "rating-bar" }, where, bar), body, finished, steps,
    h("p", { class: "soft keys" }, "Keys: the numbers rate and go on, s skips, ← → go back and on, n writes a note, Esc leaves it. Method, score, rank and sign do not reach this page."));

  /** @type {RatingState | null} */
  let shown = null;
  let since = 0;
  let isBusy = false;

  /** One question at a time: a key held down must not rate what was not seen. @param {() => Promise<RatingState>} question */
  async function turn(question) {
    if (isBusy) return;
    isBusy = true;
    root.setAttribute("aria-busy", "true");
    try {
      const state = await question();
      onProblem("");
      draw(state);
    } catch (error) {
      onProblem(inWords(error));
    }
    isBusy = false;
    root.setAttribute("aria-busy", "false");
  }
  /** Keep what was written before it leaves the screen. */
  async function keepNote() {
    if (!shown?.pair || note.value === shown.note) return;
    const [place, written] = [shown.place, note.value];
    shown.note = written;
    await ask("rating.note", { place, note: written });
  }
  /** @param {number} place */
  const open = (place) => turn(async () => {
    await keepNote();
    return ask("rating.open", { place });
  });
  /** @param {number} by */
  function go(by) {
    if (!shown) return;
    const to = shown.place + by;
    if (to >= 0 && to <= shown.total) open(to);
  }
  /** @param {number | null} rating */
  function give(rating) {
    if (!shown?.pair) return;
    const { place } = shown;
    turn(() => ask("rating.give", { place, rating, seconds: (now() - since) / 1000, note: note.value }));
  }
  /** @param {"csv" | "markdown"} form */
  async function save(form) {
    try {
      await keepNote();
      const written = await ask("rating.table", { form });
      const url = URL.createObjectURL(new Blob([written], { type: form === "csv" ? "text/csv" : "text/markdown" }));
      const link = h("a", { href: url, download: `ratings.${form === "csv" ? "csv" : "md"}` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (error) {
      onProblem(inWords(error));
    }
  }
  note.addEventListener("change", () => keepNote().catch((error) => onProblem(inWords(error))));

  /** Reached by Tab only when there is something to scroll. @param {HTMLElement} box */
  function scrollable(box) {
    box.scrollTop = 0;
    box.scrollHeight > box.clientHeight + 1 ? box.setAttribute("tabindex", "0") : box.removeAttribute("tabindex");
  }
  /** @param {RatingState} state */
  function draw(state) {
    const lostFocus = root.contains(document.activeElement) && document.activeElement;
    shown = state;
    where.textContent = ratingProgress(state);
    bar.max = Math.max(1, state.of);
    bar.value = state.rated;
    body.hidden = state.pair === null;
    finished.hidden = state.pair !== null;
    if (scale.children.length !== state.scale.length)
      scale.replaceChildren(...state.scale.map((word, i) => button("", () => give(i + 1), { "data-word": word })));
    [...scale.children].forEach((one, i) => {
      one.replaceChildren(h("b", {}, String(i + 1)), ` ${state.scale[i]}`);
      one.setAttribute("aria-pressed", String(state.rating === i + 1));
    });
    if (state.pair) {
      const { prompt, completion } = state.pair;
      const space = /^\s*/.exec(completion)?.[0] ?? "";
      query.replaceChildren(prompt + space, h("mark", {}, completion.slice(space.length)));
      text.textContent = state.pair.text || "(an empty text)";
      note.value = state.note;
      scrollable(query);
      scrollable(text);
      since = now();
    } else {
      finished.replaceChildren(h("p", {}, state.next < state.total ? "Some pairs have no answer yet." : state.skipped.length ? "Every pair was seen." : "Every pair is rated. Thank you."),
        ...(state.skipped.length ? [button(`Rate what was skipped (${state.skipped.length})`, () => open(state.skipped[0]))] : []),
        ...(state.next < state.total ? [button("Go to the first that is open", () => open(state.next))] : []),
        h("p", { class: "soft" }, "In Python: ratings holds what you said, relevance() sets it against the methods."));
    }
    back.setAttribute("aria-disabled", String(state.place <= 0));
    on.setAttribute("aria-disabled", String(state.place >= state.total));
    skip.setAttribute("aria-disabled", String(state.pair === null));
    // A control that went away must not take the focus, and with it the keys, out of the widget.
    if (lostFocus && lostFocus instanceof HTMLElement && (!lostFocus.isConnected || lostFocus.closest("[hidden]"))) {
      /** @type {HTMLElement | null} */ (root.closest("[tabindex]"))?.focus();
    }
  }
  return {
    root,
    open,
    isShown: (/** @type {number} */ place) => isBusy || shown?.place === place,
    /** True when the key meant something. @param {KeyboardEvent} event */
    onKey(event) {
      const isTyping = event.target === note;
      const command = ratingCommand(event, shown?.scale.length ?? 0, isTyping);
      if (command === null || event.repeat) return command !== null;
      if (command === "leave") {
        if (!isTyping) return false;
        /** @type {HTMLElement | null} */ (root.closest("[tabindex]"))?.focus();
      } else if (command === "note") note.focus();
      else if (command === "skip") give(null);
      else if (command === "back") go(-1);
      else if (command === "on") go(1);
      else give(command);
      return true;
    },
  };
}

/** @param {import("./host.js").Host} host @returns {import("./host.js").Built} */
function ratingHost({ model, ask, complain, root }) {
  const view = ratingView({ ask, onProblem: complain });
  const follow = () => view.isShown(model.get("position")) || view.open(model.get("position"));
  return {
    children: [view.root],
    listeners: { "change:position": follow },
    onKey(event) {
      if (view.onKey(event)) return true;
      if (event.key !== "Escape" || event.target === root) return false;
      root.focus();
      return true;
    },
    start: follow,
  };
}

export default widget("rating", "Blind rating of relevance", ratingHost);
