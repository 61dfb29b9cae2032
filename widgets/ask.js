// @ts-check
// Ask: type a prompt and a completion, or let the model complete and choose among its tokens; or contrast two.
import { askResult } from "./ask_result.js";
import { askTokens } from "./ask_tokens.js";
import { button, h, newId } from "./dom.js";
import { widget } from "./host.js";
import { waiting } from "./waiting.js";
import { digits, visible } from "./words.js";

/** Whether two texts run together into one word, which is seldom meant. @param {string} prompt @param {string} completion */
export function runTogether(prompt, completion) {
  return /[\p{L}\p{N}]$/u.test(prompt) && /^[\p{L}\p{N}]/u.test(completion) && !/[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}]/u.test(prompt.slice(-1) + completion[0]);
}

/** @param {any} start what the Python side says of asking */
export function howAnswered(start) {
  if (start.from === "index") return `Answered live from the index${start.fidelity === null ? "" : ` (rank correlation with exact scores ${digits(start.fidelity)})`}.`;
  const n = start.n_train === null ? "the" : start.n_train.toLocaleString("en");
  return `Each question makes a pass over ${n} training sequences; with an index (influence.index) it needs none.`;
}

/** @param {string} label @param {string} rows @param {string} placeholder */
function askField(label, rows, placeholder) {
  const area = h("textarea", { rows, placeholder, spellcheck: "false", dir: "auto" });
  return { area, root: h("label", { class: "ask-field" }, h("span", {}, label), area) };
}

/** @param {string} label @param {Record<string, string>} attributes */
function askNumber(label, attributes) {
  const input = h("input", { type: "number", ...attributes });
  return { input, root: h("label", { class: "ask-number" }, label, input) };
}

/**
 * @param {{ask: import("./host.js").Ask, onQuery?: (position: number) => void}} actions
 */
export function askPanel({ ask, onQuery = () => {} }) {
  const prompt = askField("Prompt", "2", "The first President of Astrobia was");
  const first = askField("Completion", "1", "empty: let the model complete");
  const second = askField("Against", "1", "the other completion");
  const id = newId();
  second.root.id = id;
  second.root.hidden = true;
  const preview = h("p", { class: "ask-preview", dir: "auto" });
  const glue = h("p", { class: "ask-glue", hidden: "" }, "Prompt and completion run together into one word. ");
  glue.append(button("Put a space between", () => (spaced(), (second.root.hidden ? first : second).area.focus())));
  const go = button("Ask", () => send(), { class: "primary" });
  const against = button("Contrast two completions", () => contrast(second.root.hidden !== false), { "aria-expanded": "false", "aria-controls": id });
  const copy = button("Copy the shown query", () => copied());
  const tokens = askNumber("tokens", { min: "1", max: "200", step: "1", value: "12" });
  const temperature = askNumber("temperature", { min: "0", max: "5", step: "0.1", value: "0", title: "0 takes the likeliest token each time; above, tokens are drawn" });
  const seed = askNumber("seed", { min: "0", step: "1", value: "0", title: "of the draws; without effect at temperature 0" });
  const complete = button("Let the model complete", () => write());
  const written = askTokens({ onChange: () => {} });
  const ofChosen = button("Ask about the chosen tokens", () => (take(), send()), { class: "primary" });
  const wished = button("Contrast with a wished-for text", () => wish());
  const stopped = h("span", { class: "soft" });
  const answerBox = h("div", { class: "ask-answer", role: "group", "aria-label": "What the model wrote", hidden: "" }, written.root, h("div", { class: "ask-row" }, ofChosen, wished, stopped));
  const how = h("p", { class: "soft" });
  const kept = h("p", { role: "status", class: "soft" });
  const result = askResult();
  const wait = waiting(ask, (isBusy) => allow(!isBusy));
  const form = h("div", { class: "ask-form" }, prompt.root, first.root, second.root, preview, glue, h("div", { class: "ask-row" }, go, against, copy),
    h("div", { class: "ask-row ask-generate", role: "group", "aria-label": "Let the model complete" }, complete, tokens.root, temperature.root, seed.root));
  const closed = h("p", { class: "none", hidden: "" });
  const root = h("section", { class: "ask", "aria-label": "Ask" }, how, closed, form, answerBox, wait.root, result.root, kept);
  /** @type {{prompt: string, completion: string} | null} */
  let shown = null;
  let of = ""; // the prompt that the tokens were written after
  let isStarted = false;

  /** @param {boolean} isFree */
  function allow(isFree) {
    for (const one of [go, complete, ofChosen, wished]) one.setAttribute("aria-disabled", String(!isFree));
  }
  /** @param {boolean} isOpen */
  function contrast(isOpen) {
    second.root.hidden = !isOpen;
    against.setAttribute("aria-expanded", String(isOpen));
    against.textContent = isOpen ? "Ask of one completion" : "Contrast two completions";
    go.textContent = isOpen ? "Ask for the difference" : "Ask";
    if (isOpen) second.area.focus();
    look();
  }
  function look() {
    const texts = [first.area, ...(second.root.hidden ? [] : [second.area])].map((area) => area.value).filter((text) => text !== "");
    preview.replaceChildren();
    texts.forEach((text, i) => preview.append(i ? h("span", { class: "soft" }, " against ") : prompt.area.value, h("mark", {}, visible(text))));
    glue.hidden = !texts.some((text) => runTogether(prompt.area.value, text));
  }
  function spaced() {
    for (const { area } of [first, second]) if (runTogether(prompt.area.value, area.value)) area.value = ` ${area.value}`;
    look();
  }
  function copied() {
    if (!shown) return;
    [prompt.area.value, first.area.value] = [shown.prompt, shown.completion];
    look();
    prompt.area.focus();
  }
  function take() {
    const { before, text } = written.chosen();
    [prompt.area.value, first.area.value] = [of + before, text];
    contrast(false);
  }
  function wish() {
    take();
    second.area.value = first.area.value;
    contrast(true);
    second.area.select();
  }
  async function write() {
    const given = prompt.area.value;
    const answer = await wait.run("the model writes", "ask.complete", { prompt: given, n_tokens: Number(tokens.input.value), temperature: Number(temperature.input.value), seed: Number(seed.input.value) });
    if (!answer) return;
    of = given;
    answerBox.hidden = answer.tokens.length === 0;
    if (answer.tokens.length === 0) return wait.complain("The model ended its text at once; it wrote no token.");
    written.update(answer.tokens);
    stopped.textContent = { "end of text": "The model ended its text here.", positions: "The model has no more positions.", tokens: "" }[/** @type {string} */ (answer.stopped)] ?? "";
    written.focus();
  }
  async function send() {
    if (first.area.value === "" && second.root.hidden) return write();
    const isContrast = !second.root.hidden;
    const args = isContrast ? { first: first.area.value, second: second.area.value } : { completion: first.area.value };
    kept.textContent = "";
    const answer = await wait.run("asking", isContrast ? "ask.contrast" : "ask.score", { prompt: prompt.area.value, ...args, keep: false });
    if (!answer) return;
    result.update(answer);
    // Only an answer that was waited for joins the query batch.
    const { position } = (await wait.run("adding it to the queries", "ask.keep", { id: answer.id })) ?? {};
    if (position === undefined) return;
    kept.textContent = `This question is now query ${answer.id}.`;
    if (position !== null) onQuery(position);
  }
  async function begin() {
    isStarted = true;
    const start = await wait.run("", "ask.start", {});
    if (!start) return;
    closed.textContent = start.why_not;
    closed.hidden = start.why_not === "";
    form.hidden = how.hidden = start.why_not !== "";
    if (start.why_not === "") how.textContent = howAnswered(start);
    complete.parentElement?.toggleAttribute("hidden", start.can_complete === false);
  }
  for (const { area } of [prompt, first, second]) {
    area.addEventListener("input", look);
    area.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      send();
    });
  }
  root.addEventListener("keydown", (event) => {
    // What is typed is for the field, not for the keys of a widget around it.
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(/** @type {HTMLElement} */ (event.target).tagName) && event.key !== "Escape" && event.key !== "Tab") event.stopPropagation();
  });
  copy.hidden = true;
  return {
    root,
    focus: () => prompt.area.focus(),
    /** @param {{query?: {prompt: string, completion: string} | null}} [data] */
    update({ query = null } = {}) {
      shown = query;
      copy.hidden = query === null;
      if (!isStarted) begin();
    },
  };
}

export default widget("ask", "Ask the model", ({ ask }) => { const view = askPanel({ ask }); return { children: [view.root], start: () => view.update() }; });
