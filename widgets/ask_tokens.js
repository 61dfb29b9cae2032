// @ts-check
// The tokens that a model wrote, of which a run is chosen: what comes before it belongs to the prompt.
import { button, h, roving } from "./dom.js";
import { percent, visible } from "./words.js";

/** @typedef {{text: string, log_probability: number | null}} AskToken */
/** @typedef {[number, number]} AskRun first and last place, both in it */

/** The tokens up to the first that ends a sentence; all where none does. @param {string[]} texts @returns {AskRun} */
export function firstSentence(texts) {
  const end = texts.findIndex((text, i) => /[.!?。！？\n]/.test(text) && texts.slice(0, i + 1).join("").trim().length > 1);
  return [0, end < 0 ? Math.max(0, texts.length - 1) : end];
}

/** What a chosen run says, what stands before it, and how likely it was. @param {AskToken[]} tokens @param {AskRun} run */
export function chosenText(tokens, [from, to]) {
  const join = (/** @type {AskToken[]} */ some) => some.map((token) => token.text).join("");
  const chosen = tokens.slice(from, to + 1);
  const sum = chosen.reduce((all, token) => all + (token.log_probability ?? NaN), 0);
  return { before: join(tokens.slice(0, from)), text: join(chosen), log_probability: sum };
}

/** @param {number | null} nats log-probability */
export function likely(nats) {
  return nats === null || !Number.isFinite(nats) ? "–" : percent(Math.exp(nats));
}

/** @param {{onChange(): void}} actions */
export function askTokens({ onChange }) {
  const box = h("div", { role: "listbox", tabindex: "0", "aria-multiselectable": "true", "aria-orientation": "horizontal", class: "ask-tokens", dir: "auto", "aria-label": "Tokens that the model wrote" });
  const readout = h("p", { class: "readout", role: "status" });
  const all = button("All", () => choose([0, tokens.length - 1]));
  const sentence = button("First sentence", () => choose(firstSentence(tokens.map((token) => token.text))));
  const hint = h("span", { class: "soft" }, "Space or a click marks a token; Shift with an arrow key or a click marks up to there.");
  /** @type {AskToken[]} */
  let tokens = [];
  /** @type {AskRun} */
  let run = [0, -1];
  let anchor = 0;
  /** @type {HTMLElement[]} */
  let options = [];
  const rover = roving(box);

  /** @param {AskRun} to */
  function choose(to) {
    run = to;
    anchor = to[0];
    draw();
  }
  /** @param {number} to */
  function stretch(to) {
    run = [Math.min(anchor, to), Math.max(anchor, to)];
    draw();
  }
  function draw() {
    options.forEach((option, i) => option.setAttribute("aria-selected", String(i >= run[0] && i <= run[1])));
    const { text, log_probability } = chosenText(tokens, run);
    const count = run[1] - run[0] + 1;
    readout.replaceChildren("Chosen: ", h("span", { class: "said", dir: "auto" }, visible(text)), ` ${count} of ${tokens.length} token${tokens.length === 1 ? "" : "s"}, probability ${likely(log_probability)}`);
    onChange();
  }
  /** @param {HTMLElement} target */
  const place = (target) => options.indexOf(/** @type {HTMLElement} */ (target.closest("[role=option]")));
  box.addEventListener("pointerdown", (event) => {
    const at = place(/** @type {HTMLElement} */ (event.target));
    if (at < 0) return;
    rover.point(at);
    event.shiftKey ? stretch(at) : choose([at, at]);
  });
  box.addEventListener("pointerover", (event) => {
    const at = place(/** @type {HTMLElement} */ (event.target));
    if (event.buttons !== 1 || at < 0) return;
    rover.point(at);
    stretch(at);
  });
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: "up", ArrowUp: "up", ArrowRight: "down", ArrowDown: "down", Home: "start", End: "end" }[event.key];
    if (step === undefined && event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    const from = rover.active();
    if (step === undefined) return choose([from, from]);
    rover.move(step);
    if (!event.shiftKey) return;
    if (from < run[0] || from > run[1]) anchor = from; // a new run begins where one stood
    stretch(rover.active());
  });
  return {
    root: h("div", { class: "ask-written" }, box, readout, h("div", { class: "ask-row" }, sentence, all, hint)),
    focus: () => box.focus(),
    chosen: () => chosenText(tokens, run),
    /** @param {AskToken[]} written */
    update(written) {
      tokens = written;
      options = written.map((token, i) => {
        const words = `${likely(token.log_probability)} likely`;
        return h("span", { role: "option", "aria-selected": "false", class: "ask-token", title: words, "aria-label": `${visible(token.text)}, token ${i + 1}, ${words}` }, visible(token.text));
      });
      box.replaceChildren(...options);
      rover.refill(options, 0);
      choose(firstSentence(written.map((token) => token.text)));
    },
  };
}
