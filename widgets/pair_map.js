// @ts-check
// Token by token: choose tokens of the query and see the training tokens that answer them, and the other way round.
import { button, h } from "./dom.js";
import { cellGrid, largestCell, shortNames } from "./heat_map.js";
import { widget } from "./host.js";
import { fillSelect, heatLegend, labelledControl, pairPicker, saidToken, tokenLine, tokenText } from "./token_line.js";
import { largest, signed } from "./words.js";

/** @typedef {"query" | "train"} Side */
/** @typedef {{query: {text: string[]}, train: {text: string[]}, effect: (number | null)[][], units: string, layer: string | null, layers: string[], selected?: number[], selectedTrain?: number[]}} PairData */

/** @type {Side[]} */
const PAIR_SIDES = ["query", "train"];
const PAIR_ALL_LAYERS = "all layers (sum)";
const PAIR_TOKENS = { query: "query token", train: "training token" };
const PAIR_NAMED = 6; // chosen tokens that are said by name

/** What is not a number counts as nothing, unless nothing is one. @param {(number | null)[]} numbers */
function pairSum(numbers) {
  const known = numbers.filter((number) => number !== null);
  return known.length ? known.reduce((sum, number) => sum + number, 0) : null;
}

/**
 * The heat of both lines: sums over the chosen tokens of the other side, over all when none is chosen there.
 * @param {(number | null)[][]} effect query token by training token
 * @param {number} columns
 * @param {Side} side where tokens are chosen
 * @param {Set<number>} picked
 */
export function pairHeat(effect, columns, side, picked) {
  const counts = (/** @type {Side} */ of, /** @type {number} */ index) => side !== of || picked.size === 0 || picked.has(index);
  const rows = effect.filter((_, s) => counts("query", s));
  return {
    query: effect.map((row) => pairSum(row.filter((_, t) => counts("train", t)))),
    train: Array.from({ length: columns }, (_, t) => pairSum(rows.map((row) => row[t] ?? null))),
    total: pairSum(effect.map(pairSum)),
    chosen: pairSum(rows.map((row) => pairSum(row.filter((_, t) => counts("train", t))))),
  };
}

/**
 * A pick: one token in or out, or all between it and the last one.
 * @param {Set<number>} picked
 * @param {number} index
 * @param {number | null} anchor where a range begins
 */
export function pickToken(picked, index, anchor) {
  const next = new Set(picked);
  if (anchor === null) next.has(index) ? next.delete(index) : next.add(index);
  else for (let i = Math.min(anchor, index); i <= Math.max(anchor, index); i++) next.add(i);
  return next;
}

/**
 * Two lines of tokens and their matrix.
 * @param {{onLayer?: (layer: string | null) => void, onSelect?: (selected: {query: number[], train: number[]}) => void}} [actions]
 */
export function pairMap({ onLayer = () => {}, onSelect = () => {} } = {}) {
  const layer = h("select", {});
  layer.addEventListener("change", () => onLayer(layer.selectedIndex ? shown?.layers[layer.selectedIndex - 1] ?? null : null));
  const layerChoice = labelledControl("Layer", layer);
  const clear = button("Clear selection", () => choose(side, new Set()));
  const lines = { query: line("query", "Query tokens"), train: line("train", "Training tokens") };
  const legends = { query: heatLegend("short"), train: heatLegend("short") };
  const chosen = h("p", { class: "pair-chosen", "aria-live": "polite" });
  const readout = h("p", { class: "token-readout" });
  const cellReadout = h("p", { class: "token-readout", "aria-live": "polite" });
  const grid = cellGrid("Query tokens by training tokens; arrow keys read them cell by cell", tellCell);
  const legend = heatLegend("signs");
  const body = h("div", {},
    h("div", { class: "pair-bar" }, layerChoice, clear),
    ...PAIR_SIDES.flatMap((of) => [h("div", { class: "pair-title" }, h("b", {}, of === "query" ? "Query" : "Training sequence"), legends[of].root), lines[of].root]),
    readout, chosen,
    h("details", { class: "pair-matrix", open: "" }, h("summary", {}, "Every token with every token: rows are the query's, columns the sequence's"), grid.root, cellReadout, legend.root));
  const waiting = h("p", { class: "none" });
  /** @type {PairData | null} */
  let shown = null;
  /** @type {Side} */
  let side = "query";
  /** @type {Set<number>} */
  let picked = new Set();
  /** @type {number | null} */
  let anchor = null;
  /** @type {ReturnType<typeof pairHeat>} */
  let heats = { query: [], train: [], total: null, chosen: null };

  /** @param {Side} of @param {string} label */
  function line(of, label) {
    const tell = (/** @type {number} */ index) => tellToken(of, index);
    return tokenLine(label, {
      onActive: tell, onHover: tell,
      onPick(index, isRange) {
        const from = side === of ? picked : new Set(/** @type {number[]} */ ([]));
        const next = pickToken(from, index, isRange && side === of ? anchor : null);
        anchor = index;
        choose(of, next);
      },
    }, true);
  }
  /** @param {Side} of @param {Set<number>} next */
  function choose(of, next) {
    [side, picked] = [of, next];
    if (!next.size) anchor = null;
    paint();
    const indices = [...next].sort((a, b) => a - b);
    onSelect({ query: of === "query" ? indices : [], train: of === "train" ? indices : [] });
  }
  /** @param {Side} of @param {number} index */
  function tellToken(of, index) {
    const text = shown?.[of].text[index];
    if (!shown || text === undefined) return;
    const over = side !== of && picked.size ? `the chosen ${PAIR_TOKENS[side]}s` : of === "query" ? "the whole sequence" : "the whole query";
    readout.replaceChildren(h("b", {}, signed(heats[of][index])), ` ${shown.units}: ${PAIR_TOKENS[of]} ${index + 1}`, ...saidToken(text), `with ${over}`);
  }
  /** @param {import("./heat_map.js").Cell} cell */
  function tellCell({ row, column }) {
    if (!shown || shown.query.text[row] === undefined || shown.train.text[column] === undefined) return;
    cellReadout.replaceChildren(h("b", {}, signed(shown.effect[row]?.[column])), ` ${shown.units}: query token ${row + 1}`, ...saidToken(shown.query.text[row]),
      `meets training token ${column + 1}`, ...saidToken(shown.train.text[column]));
  }
  function sayChosen() {
    if (!shown) return;
    if (!picked.size) {
      return chosen.replaceChildren("Choose query tokens to see the training tokens that answer them, or training tokens to see which query tokens they answer. Every token with every token: ",
        h("b", {}, signed(heats.total)), ` ${shown.units}.`);
    }
    const tokens = [...picked].sort((a, b) => a - b);
    const names = tokens.slice(0, PAIR_NAMED).flatMap((index) => saidToken(shown?.[side].text[index] ?? ""));
    const count = `${tokens.length} chosen ${PAIR_TOKENS[side]}${tokens.length > 1 ? "s" : ""}`;
    chosen.replaceChildren(side === "query" ? `The training sequence answers ${count} with ` : `The query is answered by ${count} with `,
      h("b", {}, signed(heats.chosen)), ` of ${signed(heats.total)} ${shown.units}:`, ...names, tokens.length > PAIR_NAMED ? `and ${tokens.length - PAIR_NAMED} more` : "");
  }
  function paint() {
    if (!shown) return;
    heats = pairHeat(shown.effect, shown.train.text.length, side, picked);
    for (const of of PAIR_SIDES) {
      const most = largest(heats[of]);
      lines[of].paint(heats[of], most, shown.units, lines[of].active());
      lines[of].choose((index) => side === of && picked.has(index));
      legends[of].update(most, shown.units);
    }
    clear.setAttribute("aria-disabled", String(picked.size === 0));
    sayChosen();
    tellToken(side, lines[side].active());
  }
  return {
    root: h("div", { class: "pair-map" }, waiting, body),
    /** @param {PairData | null} data @param {string} [note] what to say when there is none */
    update(data, note = "No pair to look into.") {
      const isSame = PAIR_SIDES.every((of) => shown?.[of].text.join("\u0000") === data?.[of].text.join("\u0000"));
      const isDrawn = isSame && data !== null && shown?.effect === data.effect;
      shown = data?.query.text.length && data.train.text.length ? data : null;
      waiting.textContent = data && !shown ? "One of the two texts has no tokens." : note;
      [waiting.hidden, body.hidden] = [shown !== null, shown === null];
      if (!shown || !data) return;
      if (!isSame) [picked, anchor] = [new Set(), null];
      if (data.selectedTrain?.length) [side, picked] = ["train", new Set(data.selectedTrain)];
      else if (data.selected) [side, picked] = [data.selected.length ? "query" : side, new Set(data.selected)];
      fillSelect(layer, [PAIR_ALL_LAYERS, ...shortNames(data.layers)], data.layers.indexOf(data.layer ?? "") + 1);
      layerChoice.hidden = data.layers.length === 0;
      if (!isSame) for (const of of PAIR_SIDES) lines[of].write(data[of].text);
      paint();
      if (isDrawn) return;
      const most = largest(data.effect.map(largest));
      const readable = (/** @type {Side} */ of) => data[of].text.map((piece) => tokenText(piece).shown);
      if (!isSame) grid.label(readable("query"), readable("train"));
      grid.paint(data.effect, most, isSame ? grid.active() : largestCell(data.effect));
      legend.update(most, data.units);
    },
  };
}

export default widget("pair-map", "Pair map", ({ model, set }) => {
  const picker = pairPicker({ onPosition: (position) => set({ position }), onRank: (rank) => set({ rank }) });
  const view = pairMap({ onLayer: (layer) => set({ layer }), onSelect: ({ query, train }) => set({ selected: query, selected_train: train }) });
  const draw = () => view.update({ ...model.get("_pair"), selected: model.get("selected"), selectedTrain: model.get("selected_train") });
  const choose = () => picker.update(model.get("_choices"), model.get("position"), model.get("rank"));
  return {
    children: [picker.root, view.root],
    listeners: { "change:_pair": draw, "change:selected": draw, "change:selected_train": draw, "change:_choices": choose, "change:position": choose, "change:rank": choose },
    start: () => (choose(), draw()),
  };
});
