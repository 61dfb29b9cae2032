// @ts-check
// How heavy the tail of positive influence is: the share of sequences beyond each value, and what the first ones hold.
import { axisAmount, axisCount, axisPercent, lineChart } from "./axes.js";
import { button, h } from "./dom.js";
import { widget } from "./host.js";
import { percent } from "./words.js";

/** @typedef {{alpha: number, alpha_se: number, xmin: number, p: number | null, n_tail: number, n_positive: number}} TailFit */
/** @typedef {{ccdf: {x: number[], y: number[]}, fit: TailFit | null, coverage: {share: number[], count: number[], held: number[], null: (number | null)[], exponential: (number | null)[]}, units: string, words: string}} Tail */

const TAIL_VIEWS = /** @type {const} */ (["both", "tail", "coverage"]);
const TAIL_VIEW_NAMES = { both: "Tail and coverage", tail: "Tail", coverage: "Coverage" };

/** The fitted law as a line: from xmin to the largest value. @param {TailFit} fit @param {number} most */
export function tailLaw({ alpha, xmin, n_tail, n_positive }, most) {
  return { x: [xmin, most], y: [n_tail / n_positive, (n_tail / n_positive) * (most / xmin) ** (1 - alpha)] };
}

/** The exponent with its error and its goodness of fit. @param {TailFit} fit */
export function tailExponent({ alpha, alpha_se, p }) {
  return `exponent ${alpha.toFixed(2)} ± ${alpha_se.toFixed(2)}${p === null ? "" : `, p = ${p.toFixed(2)}`}`;
}

/** The two charts. */
export function tailPlot() {
  const tail = lineChart("Tail of positive influence, both axes logarithmic");
  const coverage = lineChart("Share of positive influence that the first sequences hold");
  const words = h("p", { class: "tail-words" });
  const none = h("p", { class: "none" }, "No tail to show.");
  /** @type {"both" | "tail" | "coverage"} */
  let view = "both";
  let isCompared = true;
  /** @type {Tail | null} */
  let shown = null;
  const views = TAIL_VIEWS.map((name) => button(TAIL_VIEW_NAMES[name], () => ((view = name), choose())));
  const compare = button("Compare with other curves", () => ((isCompared = !isCompared), choose(), draw()));
  const bar = h("div", { class: "tail-bar" }, h("span", { role: "group", "aria-label": "What is shown" }, ...views), compare);
  const charts = h("div", { class: "tail-charts" },
    h("section", { "aria-label": "Tail" }, h("h4", {}, "Tail"), tail.root),
    h("section", { "aria-label": "Coverage" }, h("h4", {}, "Coverage"), coverage.root));

  function choose() {
    views.forEach((made, i) => made.setAttribute("aria-pressed", String(TAIL_VIEWS[i] === view)));
    compare.setAttribute("aria-pressed", String(isCompared));
    compare.hidden = view === "tail";
    charts.children[0].toggleAttribute("hidden", view === "coverage");
    charts.children[1].toggleAttribute("hidden", view === "tail");
  }
  function draw() {
    const isThere = shown !== null && shown.ccdf.x.length > 0;
    for (const part of [bar, charts]) part.hidden = !isThere;
    none.hidden = isThere || !!shown?.words; // the words then say why there is none
    words.textContent = shown?.words ?? "";
    if (!shown || !isThere) return;
    const { ccdf, fit, coverage: held, units } = shown;
    const most = Math.max(...ccdf.x);
    const law = fit ? [{ name: `power law, ${tailExponent(fit)}`, look: "law", ...tailLaw(fit, most) }] : [];
    tail.update({
      x: { label: `positive influence, ${units}`, log: true },
      y: { label: "share beyond", log: true, domain: [Math.min(...ccdf.y) / 1.2, 1], format: axisPercent },
      lines: [{ name: "sequences", look: "data", x: ccdf.x, y: ccdf.y }, ...law],
      tell: (i) => `${percent(ccdf.y[i])} of the positive sequences have ${axisAmount(ccdf.x[i], units)} or more`,
      summary: shown.words,
    }, true);
    const others = [
      { name: "in the order of another query's list", look: "other", x: held.share, y: held.null },
      { name: "if influence were exponential", look: "third", x: held.share, y: held.exponential },
    ].filter((line) => line.y.some((value) => value !== null));
    coverage.update({
      x: { label: "first of all sequences", log: true, format: axisPercent },
      y: { label: "share held", log: false, domain: [0, 1], format: axisPercent },
      lines: [{ name: "in the order of this query's list", look: "data", x: held.share, y: held.held }, ...(isCompared ? others : [])],
      tell: (i) => `the first ${axisCount(held.count[i])} (${percent(held.share[i])} of all) hold ${percent(held.held[i])}${isCompared && typeof held.null[i] === "number" ? `; of another query's list ${percent(held.null[i])}` : ""}`,
      summary: shown.words,
    }, true);
  }
  choose();
  return {
    root: h("div", { class: "tail-plot" }, words, bar, charts, none),
    /** @param {Tail | null} data */
    update(data) {
      shown = data;
      draw();
    },
  };
}

/** Alone: one query of some scores. @param {import("./host.js").Host} host @returns {import("./host.js").Built} */
function tailAlone({ model }) {
  const view = tailPlot();
  const query = h("p", { class: "soft" });
  function draw() {
    const sent = model.get("_tail");
    query.textContent = sent.query ? `Query ${sent.query}` : "";
    view.update(sent.ccdf ? sent : null);
  }
  return { children: [query, view.root], listeners: { "change:_tail": draw }, start: draw };
}

export default widget("tail-plot", "Tail of positive influence", tailAlone);
