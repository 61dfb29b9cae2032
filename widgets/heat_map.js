// @ts-check
// Cells in colour, row by column: layers by tokens, or tokens by tokens. One path for each strength keeps thousands of
// cells light, and the style sheet's colours keep them right when the theme changes.
import { h, svg } from "./dom.js";
import { heatLegend, saidToken, tokenText } from "./token_line.js";
import { heat, largest, signed } from "./words.js";

/** @typedef {{row: number, column: number}} Cell */

const CELL_LEVELS = 20; // steps of colour to each side of zero
const CELL_SIZE = 18; // pixels
const CELL_SIGNED = 4; // levels: weaker cells carry no + or −

/** Strength of a cell in steps, with its sign. @param {number | null} effect @param {number} most */
export function heatLevel(effect, most) {
  return Math.sign(effect ?? 0) * Math.round(CELL_LEVELS * heat(effect, most)) || 0;
}

/** Dotted names without the parts that all of them share. @param {string[]} names */
export function shortNames(names) {
  const parts = names.map((name) => name.split("."));
  if (names.length < 2) return parts.map((all) => all.slice(-3).join("."));
  let shared = 0;
  while (parts.every((all) => all.length > shared + 1 && all[shared] === parts[0][shared])) shared++;
  return parts.map((all) => all.slice(shared).join("."));
}

/**
 * The cells as paths, one for each strength, then the signs of the strong ones.
 * @param {(number | null)[][]} effect
 * @param {number} most
 */
export function cellPaths(effect, most) {
  /** @type {Map<number, string[]>} */
  const cells = new Map();
  /** @type {string[]} */
  const signs = [];
  effect.forEach((numbers, row) => numbers.forEach((number, column) => {
    const level = heatLevel(number, most);
    if (level === 0) return;
    const [x, y] = [column * CELL_SIZE, row * CELL_SIZE];
    const drawn = cells.get(level) ?? [];
    if (drawn.push(`M${x} ${y}h${CELL_SIZE - 1}v${CELL_SIZE - 1}h-${CELL_SIZE - 1}z`) === 1) cells.set(level, drawn);
    if (Math.abs(level) < CELL_SIGNED) return;
    const middle = (CELL_SIZE - 1) / 2;
    signs.push(`M${x + middle - 3} ${y + middle}h6`);
    if (level > 0) signs.push(`M${x + middle} ${y + middle - 3}v6`);
  }));
  return { cells: [...cells].map(([level, drawn]) => ({ level, path: drawn.join("") })), signs: signs.join("") };
}

/**
 * A grid of cells with a cursor that arrows move.
 * @param {string} label
 * @param {(cell: Cell) => void} onCell what the cursor or the pointer is on
 */
export function cellGrid(label, onCell) {
  const [across, down] = [h("div", { class: "cell-columns", "aria-hidden": "true" }), h("div", { class: "cell-rows", "aria-hidden": "true" })];
  const cursor = h("div", { class: "cell-cursor", "aria-hidden": "true" });
  const picture = svg("svg", { "aria-hidden": "true" });
  const plot = h("div", { class: "cell-plot", role: "application", "aria-roledescription": "heat map", tabindex: "0", "aria-label": label }, picture, cursor);
  const root = h("div", { class: "cell-grid" }, h("div", { class: "cell-corner" }), across, down, plot);
  let [rows, columns] = [0, 0];
  /** @type {Cell} */
  let active = { row: 0, column: 0 };

  /** @param {Cell} cell */
  function point(cell) {
    active = { row: Math.max(0, Math.min(rows - 1, cell.row)), column: Math.max(0, Math.min(columns - 1, cell.column)) };
    cursor.style.transform = `translate(${active.column * CELL_SIZE - 1}px, ${active.row * CELL_SIZE - 1}px)`;
    onCell(active);
  }
  /** Bring the cursor out from under the labels, which stay in place. */
  function show() {
    const [x, y] = [active.column * CELL_SIZE, active.row * CELL_SIZE];
    const [width, height] = [root.clientWidth - down.offsetWidth, root.clientHeight - across.offsetHeight];
    if (x < root.scrollLeft) root.scrollLeft = x;
    if (x + CELL_SIZE > root.scrollLeft + width) root.scrollLeft = x + CELL_SIZE - width;
    if (y < root.scrollTop) root.scrollTop = y;
    if (y + CELL_SIZE > root.scrollTop + height) root.scrollTop = y + CELL_SIZE - height;
  }
  /** @param {MouseEvent} event @returns {Cell | null} */
  function under(event) {
    const box = plot.getBoundingClientRect();
    const cell = { row: Math.floor((event.clientY - box.top) / CELL_SIZE), column: Math.floor((event.clientX - box.left) / CELL_SIZE) };
    return cell.row >= 0 && cell.row < rows && cell.column >= 0 && cell.column < columns ? cell : null;
  }
  plot.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { row, column } = active;
    const to = {
      ArrowLeft: { row, column: column - 1 }, ArrowRight: { row, column: column + 1 }, ArrowUp: { row: row - 1, column },
      ArrowDown: { row: row + 1, column }, Home: { row, column: 0 }, End: { row, column: columns - 1 },
    }[event.key];
    if (to) {
      point(to);
      show();
    } else if (event.key === "Escape") /** @type {HTMLElement | null} */ (plot.closest(".inflab"))?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation(); // elsewhere these keys step through queries
  });
  plot.addEventListener("mousemove", (event) => {
    const cell = under(event);
    if (cell) onCell(cell);
  });
  plot.addEventListener("mouseleave", () => onCell(active));
  plot.addEventListener("click", (event) => {
    const cell = under(event);
    if (cell) point(cell);
  });

  return {
    root,
    /** Labels as text; an empty grid hides. @param {string[]} rowNames @param {string[]} columnNames */
    label(rowNames, columnNames) {
      [rows, columns] = [rowNames.length, columnNames.length];
      down.replaceChildren(...rowNames.map((name) => h("div", { title: name, dir: "auto" }, name)));
      across.replaceChildren(...columnNames.map((name) => h("div", {}, h("span", {}, name))));
      picture.setAttribute("width", String(columns * CELL_SIZE));
      picture.setAttribute("height", String(rows * CELL_SIZE));
      root.hidden = rows === 0 || columns === 0;
      root.scrollTop = root.scrollLeft = 0;
    },
    /** @param {(number | null)[][]} effect @param {number} most @param {Cell} cell where the cursor goes */
    paint(effect, most, cell) {
      const { cells, signs } = cellPaths(effect, most);
      picture.replaceChildren(
        ...cells.map(({ level, path }) => svg("path", { class: level < 0 ? "cell negative" : "cell positive", "fill-opacity": Math.abs(level) / CELL_LEVELS, d: path })),
        svg("path", { class: "cell-signs", d: signs }));
      if (rows && columns) point(cell);
    },
    active: () => active,
  };
}

/** Where the largest number is. @param {(number | null)[][]} effect @returns {Cell} */
export function largestCell(effect) {
  const most = largest(effect.map(largest));
  const row = Math.max(0, effect.findIndex((numbers) => largest(numbers) === most));
  return { row, column: Math.max(0, (effect[row] ?? []).findIndex((number) => Math.abs(number ?? 0) === most)) };
}

/** Layers by tokens. */
export function heatMap() {
  const readout = h("p", { class: "token-readout", "aria-live": "polite" });
  const legend = heatLegend("signs");
  const none = h("p", { class: "none" }, "This view keeps no layers apart.");
  /** @type {{layers: string[], text: string[], effect: (number | null)[][], units: string} | null} */
  let shown = null;
  const grid = cellGrid("Heat by layer and token; arrow keys read it cell by cell", tell);

  /** @param {Cell} cell */
  function tell({ row, column }) {
    if (!shown) return;
    readout.replaceChildren(h("b", {}, signed(shown.effect[row]?.[column])), ` ${shown.units} in layer ${shown.layers[row]} at`, ...saidToken(shown.text[column]),
      `token ${column + 1} of ${shown.text.length}`);
  }
  return {
    root: h("section", { class: "heat-map", "aria-label": "Layers by tokens" }, none, grid.root, readout, legend.root),
    /** @param {{layers?: string[], text?: string[], effect?: (number | null)[][], units?: string} | null} data */
    update(data) {
      const { layers = [], text = [], effect = [], units = "" } = data ?? {};
      const isSame = shown?.layers.join() === layers.join() && shown.text.join() === text.join();
      shown = layers.length && text.length ? { layers, text, effect, units } : null;
      none.hidden = shown !== null;
      for (const part of [grid.root, readout, legend.root]) part.hidden = shown === null;
      if (!shown) return;
      const most = largest(effect.map(largest));
      if (!isSame) grid.label(shortNames(layers), text.map((piece) => tokenText(piece).shown));
      grid.paint(effect, most, isSame ? grid.active() : largestCell(effect));
      legend.update(most, units);
    },
  };
}
