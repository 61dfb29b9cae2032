// @ts-check
// Two ranked lists with lines from the place of a sequence in the one to its place in the other.
import { h, newId, reveal, roving, svg } from "./dom.js";
import { signed } from "./words.js";

/** @typedef {import("./dom.js").Plain} Plain */
/** @typedef {"positive" | "negative"} CompareSign */
/** @typedef {{train: Plain, rank: number, other: number, value: number, other_value: number, text: string}} CompareItem */
/** @typedef {{of: number, train: Plain[], value: number[][], rank: number[][], group: number[]}} CompareMarks */
/** @typedef {{position: number, n_query: number, query: {id: Plain, prompt: string, completion: string, meta: Record<string, Plain>}, k: number, sign: CompareSign, names: string[], units: string[], n: number, n_common: number, notes: string[], spearman: number | null, both: number, overlap: number | null, chance: number | null, rbo: number | null, lists: CompareItem[][], scatter: CompareMarks}} CompareAnswer */

const COMPARE_ROW = 34; // px; compare.css gives the rows of the lists this height, so that lines meet them
const COMPARE_SLOPES = 120; // units of the picture between the lists; its width follows the page
const COMPARE_ENDS = { positive: "most positive", negative: "most negative" };

/** How far a sequence moved from one list to the other, in words. @param {number} here @param {number} there */
export function placesMoved(here, there) {
  if (here === there) return "same place";
  const by = Math.abs(there - here);
  return `${by.toLocaleString("en")} ${by === 1 ? "place" : "places"} ${there < here ? "higher" : "lower"}`;
}

/** @param {(train: Plain) => void} onPick */
export function slopeChart(onPick) {
  const picture = svg("svg", { "aria-hidden": "true", class: "compare-slopes", preserveAspectRatio: "none" });
  const box = h("div", { class: "compare-lists" });
  const columns = [0, 1].map((side) => {
    const id = newId();
    const list = h("div", { role: "listbox", tabindex: "0", "aria-labelledby": id, class: `compare-list side-${side}` });
    const none = h("p", { class: "none", hidden: "" });
    /** @type {HTMLElement[]} */
    let options = [];
    const rover = roving(list, (index) => document.activeElement === list && options[index] && reveal(box, options[index]));
    const title = h("div", { class: "title", id });
    list.addEventListener("focus", () => options[rover.active()] && reveal(box, options[rover.active()]));
    return { list, none, title, rover, options: () => options, keep: (/** @type {HTMLElement[]} */ drawn) => (options = drawn) };
  });
  /** @type {CompareAnswer | null} */
  let shown = null;

  /** @param {CompareAnswer} answer @param {number} side @param {CompareItem} item */
  function row(answer, side, item) {
    const isOn = item.other <= answer.k && answer.lists[1 - side].some((one) => one.train === item.train);
    const place = h("span", { class: `compare-there${isOn ? "" : " out"}` }, `${item.other === item.rank ? "=" : item.other < item.rank ? "↑" : "↓"} at ${item.other.toLocaleString("en")}`);
    const cells = [h("span", { class: "rank" }, String(item.rank)), h("span", { class: "number" }, signed(item.value)), h("span", { class: "compare-text", dir: "auto" }, item.text || `sequence ${item.train}`)];
    const option = h("div", { role: "option", class: "compare-item" }, ...(side === 0 ? [...cells, place] : [place, ...cells]));
    const said = `${item.rank}. ${signed(item.value)} ${answer.units[side]}; place ${item.other} by ${answer.names[1 - side]}, ${placesMoved(item.rank, item.other)}. ${item.train}: ${item.text}`;
    option.setAttribute("aria-label", said.slice(0, 300));
    option.title = `${item.train}\n${item.text}`;
    option.addEventListener("click", () => {
      columns[side].rover.point(item.rank - 1);
      onPick(item.train);
    });
    return option;
  }

  /** @param {CompareAnswer} answer @param {Plain} selected */
  function lines(answer, selected) {
    const rows = Math.max(1, ...answer.lists.map((list) => list.length));
    picture.setAttribute("viewBox", `0 0 ${COMPARE_SLOPES} ${rows * COMPARE_ROW}`);
    picture.style.height = `${rows * COMPARE_ROW}px`;
    picture.replaceChildren();
    /** @param {number} rank */
    const y = (rank) => (rank - 0.5) * COMPARE_ROW;
    const right = new Map(answer.lists[1].map((item) => [item.train, item]));
    const left = new Set(answer.lists[0].map((item) => item.train));
    for (const item of answer.lists[0]) {
      const other = right.get(item.train);
      const chosen = item.train === selected ? " chosen" : "";
      if (other) picture.append(svg("line", { x1: 0, y1: y(item.rank), x2: COMPARE_SLOPES, y2: y(other.rank), class: `compare-line ${answer.sign}${chosen}`, "vector-effect": "non-scaling-stroke" }));
      else picture.append(svg("line", { x1: 0, y1: y(item.rank), x2: 16, y2: y(item.rank) + 8, class: `compare-line out${chosen}`, "vector-effect": "non-scaling-stroke" }));
    }
    for (const item of answer.lists[1]) {
      if (left.has(item.train)) continue;
      const chosen = item.train === selected ? " chosen" : "";
      picture.append(svg("line", { x1: COMPARE_SLOPES - 16, y1: y(item.rank) + 8, x2: COMPARE_SLOPES, y2: y(item.rank), class: `compare-line out${chosen}`, "vector-effect": "non-scaling-stroke" }));
    }
  }

  box.append(columns[0].list, columns[0].none, picture, columns[1].list, columns[1].none);
  return {
    root: h("div", { class: "compare-slope" }, h("div", { class: "compare-heads" }, columns[0].title, columns[1].title), box),
    /** A key in a list; true when it meant something. @param {KeyboardEvent} event */
    onKey(event) {
      const side = columns.findIndex((column) => column.list === event.target);
      if (side < 0 || !shown || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return false;
      const step = { ArrowUp: "up", ArrowDown: "down", Home: "start", End: "end" }[event.key];
      if (step) columns[side].rover.move(step);
      else if (event.key === "Enter" || event.key === " ") {
        const item = shown.lists[side][columns[side].rover.active()];
        if (item) onPick(item.train);
      } else return false;
      return true;
    },
    /** @param {CompareAnswer} answer */
    update(answer) {
      shown = answer;
      columns.forEach(({ list, none, title, rover, keep }, side) => {
        const items = answer.lists[side];
        const options = items.map((item) => row(answer, side, item));
        list.replaceChildren(...options);
        list.hidden = items.length === 0;
        none.hidden = items.length > 0;
        none.textContent = `No sequence has ${answer.sign} influence by ${answer.names[side]}.`;
        title.replaceChildren(h("span", { class: `swatch ${answer.sign}`, "aria-hidden": "true" }), `${answer.names[side]}: ${COMPARE_ENDS[answer.sign]} `, h("span", { class: "soft" }, answer.units[side]));
        keep(options);
        rover.refill(options, 0);
      });
      box.scrollTop = 0;
    },
    /** @param {Plain} selected */
    choose(selected) {
      if (!shown) return;
      const { lists } = shown;
      columns.forEach(({ list, rover, options }, side) => {
        const index = lists[side].findIndex((item) => item.train === selected);
        options().forEach((option, i) => option.setAttribute("aria-selected", String(i === index)));
        // The other list points at the same sequence, so that Tab follows the line.
        if (index >= 0 && document.activeElement !== list) rover.point(index);
      });
      lines(shown, selected);
    },
  };
}
