// @ts-check
// An answer to read at once: how likely the completion is, where the answer is from, who speaks for and against.
import { h } from "./dom.js";
import { digits, factor, heat, largest, percent, signed, visible } from "./words.js";
import { likely } from "./ask_tokens.js";

/** @typedef {import("./ask_tokens.js").AskToken} ResultToken */
/** @typedef {{train: string | number, value: number | null, share: number | null, text: string}} ResultItem */
/** @typedef {{text: string, log_probability: number | null, tokens: ResultToken[]}} ResultSaid */
/** @typedef {{id: string, prompt: string, completions: ResultSaid[], from: "index" | "pass", fidelity: number | null, top_overlap: number | null, n_train: number, seconds: number, units: string, is_effect: boolean, positive: ResultItem[], negative: ResultItem[]}} AskAnswer */

/** Where an answer is from, in a sentence. @param {AskAnswer} answer */
export function whereFrom({ from, seconds, n_train, fidelity, top_overlap }) {
  const took = `Answered in ${seconds < 10 ? seconds.toPrecision(2) : Math.round(seconds)} s`;
  if (from === "pass") return `${took} by a pass over ${n_train.toLocaleString("en")} training sequences.`;
  const good = fidelity === null ? "" : `, whose order agrees with exact scores by a rank correlation of ${digits(fidelity)}`;
  const shared = top_overlap === null ? "" : ` and shares ${percent(top_overlap)} of the first ten`;
  return `${took} from the index of ${n_train.toLocaleString("en")} sequences${good}${shared}.`;
}

/** What the signs of an answer mean. @param {AskAnswer} answer @returns {[string, string]} */
export function whoSpeaks({ completions, is_effect }) {
  if (completions.length === 2) return [`For “${visible(completions[0].text.trim())}”`, `For “${visible(completions[1].text.trim())}”`];
  return is_effect ? ["Makes it more likely", "Makes it less likely"] : ["Largest positive", "Largest negative"];
}

/** @param {ResultSaid} said */
function resultLine(said) {
  const nats = said.log_probability === null ? "" : ` (log-probability ${signed(said.log_probability)} nat)`;
  const tokens = h("span", { class: "ask-parts" });
  for (const token of said.tokens) tokens.append(h("span", { class: "ask-part" }, h("span", { dir: "auto" }, visible(token.text)), h("span", { class: "soft" }, likely(token.log_probability))));
  return h("li", {}, h("mark", { dir: "auto" }, visible(said.text)), " ", h("b", {}, likely(said.log_probability)), nats, said.tokens.length > 1 ? tokens : "");
}

/**
 * @param {"positive" | "negative"} sign
 * @param {string} title
 * @param {ResultItem[]} items
 * @param {AskAnswer} answer
 * @param {number} most
 */
function resultList(sign, title, items, answer, most) {
  const list = h("ol", { class: "ask-list" });
  for (const item of items) {
    const bar = h("span", { class: `bar ${sign}`, "aria-hidden": "true" });
    bar.style.width = `${(100 * heat(item.value, most)).toFixed(1)}%`;
    const words = answer.is_effect && answer.completions.length === 1 ? factor(item.value) : "";
    const number = h("span", { class: "number" }, signed(item.value));
    list.append(h("li", {}, h("div", { class: "ask-measure" }, number, h("span", { class: "soft" }, ` ${percent(item.share)}${words}`), h("span", { class: "track" }, bar)), h("div", { class: "ask-snippet", dir: "auto" }, item.text || `sequence ${item.train}`), h("div", { class: "soft ask-id" }, String(item.train))));
  }
  const none = items.length ? list : h("p", { class: "none" }, "No sequence.");
  return h("div", {}, h("h4", {}, h("span", { class: `swatch ${sign}`, "aria-hidden": "true" }), title), none);
}

export function askResult() {
  const root = h("div", { class: "ask-result", role: "region", "aria-label": "Answer", hidden: "" });
  return {
    root,
    /** @param {AskAnswer} answer */
    update(answer) {
      root.hidden = false;
      const { completions } = answer;
      const [first, second] = completions.map((said) => said.log_probability);
      const lines = h("ul", { class: "ask-said" }, ...completions.map(resultLine));
      const odds = second === undefined || first === null || second === null ? "" : `The first is ×${digits(Math.exp(Math.min(first - second, 700)))} as likely as the second (difference ${signed(first - second)} nat). Influence below is on this difference.`;
      const titles = whoSpeaks(answer);
      const most = largest([...answer.positive, ...answer.negative].map((item) => item.value));
      root.replaceChildren(
        h("p", { class: "ask-question", dir: "auto" }, h("span", { class: "soft" }, "After "), answer.prompt), lines,
        odds ? h("p", {}, odds) : "",
        h("p", { class: "soft" }, whereFrom(answer)),
        h("div", { class: "ask-columns" }, resultList("positive", titles[0], answer.positive, answer, most), resultList("negative", titles[1], answer.negative, answer, most)),
        h("p", { class: "soft" }, `In ${answer.units}; percentages are shares of all influence of the same sign.`),
      );
    },
  };
}
