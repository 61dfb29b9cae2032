// @ts-check
// Two scores side by side: the two lists of a query with lines from place to place, agreement per query and over the
// batch, and every sequence's score by the one against its score by the other.
import { measureCard } from "./batch_strip.js";
import { button, h } from "./dom.js";
import { inWords, newest, widget } from "./host.js";
import { scoreScatter, twoDigits } from "./score_scatter.js";
import { placesMoved, slopeChart } from "./slope_chart.js";
import { percent, signed } from "./words.js";

/** @typedef {import("./dom.js").Plain} Plain */
/** @typedef {import("./slope_chart.js").CompareAnswer} CompareAnswer */
/** @typedef {import("./slope_chart.js").CompareItem} CompareItem */
/** @typedef {import("./slope_chart.js").CompareSign} CompareSign */
/** @typedef {{overlap: Record<string, number | null>, rbo: number | null}} CompareEnd */
/** @typedef {{id: Plain, label: string, spearman: number | null, positive: CompareEnd, negative: CompareEnd}} CompareRow */

/**
 * The panel: `update` asks for a query and draws it. `onPick` hears of a sequence, `onStep` of another query (where the
 * host lets the panel step), `onChange` of another length or sign.
 * @param {{ask: import("./host.js").Ask, onPick?: (train: Plain) => void, onStep?: (position: number) => void, onChange?: (wanted: {k: number, sign: CompareSign}) => void, onProblem?: (words: string) => void, onShow?: (answer: CompareAnswer) => void}} actions
 */
export function comparePanel({ ask, onPick = () => {}, onStep = () => {}, onChange = () => {}, onProblem, onShow = () => {} }) {
  const question = newest(ask);
  const lengths = h("select", { "aria-label": "Length of the lists" }, ...[10, 50, 100].map((k) => h("option", { value: String(k) }, `first ${k}`)));
  const signs = h("select", { "aria-label": "End of the ranking" }, h("option", { value: "positive" }, "most positive"), h("option", { value: "negative" }, "most negative"));
  const summary = h("output", { "aria-live": "polite", class: "compare-summary" });
  const notes = h("ul", { class: "compare-notes soft" });
  const problem = h("p", { class: "problem", role: "alert", hidden: "" });
  /** @param {Plain} train */
  const pick = (train) => {
    choose(train);
    onPick(train);
  };
  const slopes = slopeChart(pick);
  const scatter = scoreScatter(pick);
  const measures = {
    spearman: measureCard("Rank correlation", "Spearman's correlation of the two scores' ranks, over all sequences with a number in both", [-1, 1], onStep),
    overlap: measureCard("Overlap of the lists", "Sequences on both lists, as a share of the longer one", [0, 1], onStep),
    rbo: measureCard("Rank-biased overlap", "Webber, Moffat and Zobel 2010, p = 0.9: the first ten places carry 86 % of the weight", [0, 1], onStep),
  };
  const ranks = h("tbody");
  const rankHead = h("tr");
  const batchRows = h("tbody");
  const batchTable = h("details", {}, h("summary", {}, "Agreement of every query as a table"), h("div", { class: "compare-scroll", tabindex: "0", role: "region", "aria-label": "Agreement of every query" },
    h("table", {}, h("thead", {}, h("tr", {}, ...["query", "rank correlation", "overlap", "rank-biased overlap"].map((text) => h("th", { scope: "col" }, text)))), batchRows)));
  const rankTable = h("details", {}, h("summary", {}, "Ranks of this query as a table"), h("div", { class: "compare-scroll", tabindex: "0", role: "region", "aria-label": "Ranks of this query" }, h("table", {}, h("thead", {}, rankHead), ranks)));
  const body = h("div", { class: "compare-body" }, h("div", { class: "compare-measures" }, ...Object.values(measures).map((one) => one.root)), slopes.root, scatter.root);
  scatter.side.append(rankTable, batchTable);
  const root = h("section", { class: "compare", "aria-label": "Comparison" }, h("div", { class: "compare-bar" }, lengths, signs, summary), notes, problem, body);

  /** @type {CompareAnswer | null} */
  let shown = null;
  /** @type {CompareRow[] | null} */
  let batch = null;
  let isAsked = false;
  /** @type {Plain} */
  let selected = null;
  let wanted = { position: 0, k: 10, sign: /** @type {CompareSign} */ ("positive") };

  /** @param {string} words */
  function complain(words) {
    if (onProblem) return onProblem(words);
    problem.textContent = words;
    problem.hidden = words === "";
  }
  async function load() {
    root.setAttribute("aria-busy", "true");
    try {
      const answer = await question("compare.query", wanted);
      if (answer === undefined) return; // a newer question is on its way
      complain("");
      draw((shown = answer));
      onShow(answer);
    } catch (error) {
      complain(inWords(error));
    }
    root.setAttribute("aria-busy", "false");
    if (!isAsked) loadBatch();
  }
  /** Some queries at a time, so that a step is answered in between. */
  async function loadBatch() {
    isAsked = true;
    /** @type {CompareRow[]} */
    const rows = [];
    try {
      for (let count = 1; rows.length < count; ) {
        const part = await ask("compare.batch", { start: rows.length });
        count = part.n_query;
        rows.push(...part.queries);
      }
      batch = rows;
      drawBatch();
    } catch (error) {
      isAsked = false; // asked again with the next query
      complain(inWords(error));
    }
  }
  /** @param {Plain} train */
  function choose(train) {
    selected = train;
    slopes.choose(train);
    scatter.choose(train);
  }
  /** @param {CompareAnswer} answer */
  function draw(answer) {
    const { both, n, names, k, sign } = answer;
    const longer = Math.max(...answer.lists.map((list) => list.length));
    summary.textContent = `Query ${answer.position + 1}: ${both} of ${longer} on both lists, rank correlation ${twoDigits(answer.spearman)}`;
    measures.spearman.tell(twoDigits(answer.spearman), `Spearman, ${n.toLocaleString("en")} sequences`);
    measures.overlap.tell(longer ? `${both} of ${longer}` : "–", answer.chance === null ? "" : `chance would give ${percent(answer.chance)}`);
    measures.rbo.tell(twoDigits(answer.rbo), "first places count most");
    const told = [...answer.notes, ...(n < answer.n_common ? [`${n.toLocaleString("en")} of ${answer.n_common.toLocaleString("en")} sequences have a number in both.`] : [])];
    notes.replaceChildren(...told.map((text) => h("li", {}, text)));
    slopes.update(answer);
    scatter.update(answer);
    rankHead.replaceChildren(...["sequence", `place by ${names[0]}`, `place by ${names[1]}`, "moved", `${names[0]}, ${answer.units[0]}`, `${names[1]}, ${answer.units[1]}`].map((text) => h("th", { scope: "col" }, text)));
    const right = answer.lists[1].filter((item) => !answer.lists[0].some((one) => one.train === item.train));
    ranks.replaceChildren(
      ...answer.lists[0].map((item) => rankRow(item, item.rank, item.other, item.value, item.other_value)),
      ...right.map((item) => rankRow(item, item.other, item.rank, item.other_value, item.value)),
    );
    lengths.value = String(k);
    signs.value = sign;
    choose(selected);
    drawBatch();
  }
  /** @param {CompareItem} item @param {number} a @param {number} b @param {number} valueA @param {number} valueB */
  function rankRow(item, a, b, valueA, valueB) {
    const cells = [a.toLocaleString("en"), b.toLocaleString("en"), placesMoved(a, b), signed(valueA), signed(valueB)];
    return h("tr", {}, h("th", { scope: "row", dir: "auto" }, `${item.train}: ${item.text.slice(0, 80)}`), ...cells.map((text) => h("td", {}, text)));
  }
  function drawBatch() {
    if (!batch || !shown) return;
    const { k, sign, position } = shown;
    const labels = batch.map((row) => row.label || String(row.id));
    measures.spearman.draw(batch.map((row) => row.spearman), position, labels);
    measures.overlap.draw(batch.map((row) => row[sign].overlap[String(k)]), position, labels);
    measures.rbo.draw(batch.map((row) => row[sign].rbo), position, labels);
    batchTable.hidden = batch.length < 2;
    batchRows.replaceChildren(...batch.map((row, i) => {
      const go = button(`${i + 1}. ${labels[i]}`, () => onStep(i), { class: "compare-go", dir: "auto", ...(i === position ? { "aria-current": "true" } : {}) });
      return h("tr", {}, h("th", { scope: "row" }, go), ...[row.spearman, row[sign].overlap[String(k)], row[sign].rbo].map((value) => h("td", {}, twoDigits(value))));
    }));
  }
  const change = () => {
    wanted = { ...wanted, k: Number(lengths.value), sign: /** @type {CompareSign} */ (signs.value) };
    onChange({ k: wanted.k, sign: wanted.sign });
    load();
  };
  lengths.addEventListener("change", change);
  signs.addEventListener("change", change);
  return {
    root,
    onKey: slopes.onKey,
    choose,
    /** @param {{position?: number, k?: number, sign?: CompareSign}} to */
    update(to) {
      const next = { ...wanted, ...to };
      if (shown && next.position === wanted.position && next.k === wanted.k && next.sign === wanted.sign) return;
      wanted = next;
      load();
    },
  };
}

/** The panel alone, with its own steps. @param {import("./host.js").Host} host @returns {import("./host.js").Built} */
function compareHost({ model, ask, set, complain, root }) {
  const place = h("output", { "aria-live": "polite", "aria-label": "position in the query batch" });
  const text = h("p", { class: "compare-query", dir: "auto" });
  let count = 1;
  /** @param {number} to */
  const step = (to) => to >= 0 && to < count && to !== model.get("position") && set({ position: to });
  const steps = [button("◀\ufe0e", () => step(model.get("position") - 1), { "aria-label": "Previous query" }), button("▶\ufe0e", () => step(model.get("position") + 1), { "aria-label": "Next query" })];
  const panel = comparePanel({
    ask,
    onPick: (train) => set({ selected: train }),
    onStep: step,
    onChange: set,
    onProblem: complain,
    onShow(answer) {
      count = answer.n_query;
      place.textContent = `${answer.position + 1} / ${count}`;
      steps[0].setAttribute("aria-disabled", String(answer.position <= 0));
      steps[1].setAttribute("aria-disabled", String(answer.position >= count - 1));
      text.replaceChildren(answer.query.prompt, h("mark", {}, answer.query.completion));
    },
  });
  const draw = () => panel.update({ position: model.get("position"), k: model.get("k"), sign: model.get("sign") });
  return {
    children: [h("div", { class: "compare-steps" }, h("span", {}, "Query "), steps[0], place, steps[1]), text, panel.root,
      h("p", { class: "soft keys" }, "Keys: ← → step through queries; in a list ↑ ↓ walk, Enter picks, Tab follows the picked sequence to the other list.")],
    listeners: { "change:position": draw, "change:k": draw, "change:sign": draw, "change:selected": () => panel.choose(model.get("selected")) },
    onKey(event) {
      if (panel.onKey(event)) return true;
      const target = /** @type {HTMLElement} */ (event.target);
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || target.closest("select")) return false;
      if (event.key === "Escape" && target !== root) root.focus();
      else if (event.key === "ArrowLeft") step(model.get("position") - 1);
      else if (event.key === "ArrowRight") step(model.get("position") + 1);
      else return false;
      return true;
    },
    start: () => {
      panel.choose(model.get("selected"));
      draw();
    },
  };
}

export default widget("compare", "Comparison of two influences", compareHost);
