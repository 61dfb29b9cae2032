// @ts-check
// Scores over the whole training set: bars over the logarithm of the size, both signs; drag or type a range to filter.
import { button, h, svg } from "./dom.js";
import { inWords, newest } from "./host.js";
import { digits, signed } from "./words.js";

/** @typedef {{edges: number[], counts: number[], linear: number, positive: number, negative: number, zero: number, missing: number, units: string, predicts: boolean}} Bins */
/** @typedef {[number | null, number | null]} Range half open; null is no end */
/** @typedef {{kind: "chosen" | "pinned" | "shown", label: string, value: number}} Mark */

const [BARS_WIDTH, BARS_HEIGHT, BARS_LEFT, BARS_BOTTOM] = [640, 96, 34, 18];
const MARKS_SAID = 8; // by name, beside their places in the picture

/** Bins that a drag from one place to another covers. @param {number} from @param {number} to shares of the width @param {number} count */
export function binsBetween(from, to, count) {
  const [low, high] = from < to ? [from, to] : [to, from];
  const first = Math.max(0, Math.min(count - 1, Math.floor(low * count)));
  return [first, Math.max(first, Math.min(count - 1, Math.ceil(high * count) - 1))];
}

/** In which bin a value lies; -1 when there is none. @param {number} value @param {number[]} edges ascending */
export function binOf(value, edges) {
  if (edges.length < 2 || value < edges[0] || value >= edges[edges.length - 1]) return -1;
  return edges.findIndex((edge, i) => i + 1 < edges.length && value >= edge && value < edges[i + 1]);
}

/** Edges that get a number: the powers of ten, at most `most` of a sign. @param {number[]} edges @param {number} [most] */
export function tickEdges(edges, most = 4) {
  const isPower = (/** @type {number} */ edge) => Math.abs(Math.log10(edge) - Math.round(Math.log10(edge))) < 1e-4;
  const powers = edges.filter((edge) => edge > 0 && isPower(edge));
  const stride = Math.max(1, Math.ceil(powers.length / most));
  const kept = powers.filter((_, i) => (powers.length - 1 - i) % stride === 0);
  return [...kept.map((edge) => -edge).reverse(), ...kept];
}

/** What stands at a power of ten: +0.01, −10⁻⁵, +100. @param {number} edge */
export function tickLabel(edge) {
  const size = digits(Math.abs(edge)).replace("1.00×", "").replace(/\.0+$|(\.\d*[1-9])0+$/, "$1");
  return (edge < 0 ? "−" : "+") + size;
}

/**
 * @param {{ask: (kind: string, args?: Record<string, unknown>) => Promise<any>, onRange: (range: Range) => void}} actions
 */
export function histogram({ ask, onRange }) {
  const question = newest(/** @type {import("./host.js").Ask} */ (ask));
  const picture = svg("svg", { viewBox: `0 0 ${BARS_WIDTH} ${BARS_HEIGHT}`, class: "histogram-picture", role: "img" });
  const readout = h("output", { class: "histogram-readout soft", "aria-live": "polite" });
  const [low, high] = ["From", "to below"].map((word) => h("input", { type: "number", step: "any", "aria-label": `${word}, effect` }));
  const apply = button("Filter to this range", () => range(value(low), value(high)));
  const said = h("p", { class: "histogram-marked soft" });
  const root = h("details", { class: "histogram" }, h("summary", {}, "Scores of the whole training set"),
    picture, h("div", { class: "histogram-bar" }, h("label", {}, "from ", low), h("label", {}, "to below ", high), apply, button("All", () => range(null, null)), readout), said);
  /** @type {Bins | null} */
  let shown = null;
  /** @type {Mark[]} */
  let marked = [];
  /** @type {Range} */
  let kept = [null, null];
  /** @type {number | null} */
  let dragged = null;

  /** @param {HTMLInputElement} field */
  const value = (field) => (field.value.trim() === "" || !Number.isFinite(Number(field.value)) ? null : Number(field.value));
  /** @param {number | null} from @param {number | null} to */
  function range(from, to) {
    kept = [from, to];
    [low.value, high.value] = [from === null ? "" : String(from), to === null ? "" : String(to)];
    draw();
    onRange(kept);
  }
  const width = BARS_WIDTH - BARS_LEFT;
  /** @param {number} index edge @param {number} count bins */
  const x = (index, count) => BARS_LEFT + (index / count) * width;

  function draw() {
    picture.replaceChildren();
    if (!shown) return;
    const { edges, counts, units, positive, negative, zero, missing } = shown;
    const n = counts.length;
    const words = `${positive.toLocaleString("en")} sequences above 0, ${negative.toLocaleString("en")} below, ${zero.toLocaleString("en")} at 0${missing ? `, ${missing.toLocaleString("en")} without a number` : ""}`;
    picture.setAttribute("aria-label", `Histogram of scores in ${units}: ${words}`);
    readout.textContent = words;
    if (!n) return;
    const most = Math.log1p(Math.max(...counts));
    const bottom = BARS_HEIGHT - BARS_BOTTOM;
    const top = (/** @type {number} */ count) => bottom - (most ? (Math.log1p(count) / most) * (bottom - 12) : 0);
    counts.forEach((count, i) => {
      const sign = edges[i + 1] <= 0 ? "negative" : edges[i] >= 0 ? "positive" : "zero";
      const isKept = (kept[0] === null || edges[i] >= kept[0]) && (kept[1] === null || edges[i + 1] <= kept[1]);
      const bar = svg("rect", { x: x(i, n) + 0.5, y: top(count), width: Math.max(1, width / n - 1), height: bottom - top(count), class: `histogram-rect ${sign}${isKept ? "" : " left-out"}` });
      bar.append(svg("title", {}, `${count.toLocaleString("en")} from ${signed(edges[i])} to ${signed(edges[i + 1])} ${units}`));
      picture.append(bar);
    });
    picture.append(svg("line", { x1: BARS_LEFT, x2: BARS_WIDTH, y1: bottom, y2: bottom, class: "histogram-axis" }));
    for (const edge of tickEdges(edges)) {
      const at = edges.findIndex((one) => Math.abs(one - edge) <= 1e-9 + 1e-6 * Math.abs(edge));
      if (at < 0 || Math.abs(x(at, n) - x(n / 2, n)) < 24) continue; // the smallest stand too near to one another
      picture.append(svg("line", { x1: x(at, n), x2: x(at, n), y1: bottom, y2: bottom + 3, class: "histogram-axis" }),
        svg("text", { x: x(at, n), y: BARS_HEIGHT - 4, "text-anchor": at === 0 ? "start" : at === n ? "end" : "middle" }, tickLabel(edge)));
    }
    picture.append(svg("text", { x: x(n / 2, n), y: BARS_HEIGHT - 4, "text-anchor": "middle" }, "0"));
    picture.append(svg("text", { x: 0, y: 10 }, Math.max(...counts).toLocaleString("en")), svg("text", { x: 0, y: bottom }, "0"));
    const inSight = new Set(marked.filter(({ kind }) => kind === "shown").map((one) => binOf(one.value, edges)));
    for (const bin of inSight) if (bin >= 0) picture.append(svg("rect", { x: x(bin, n), y: bottom + 1, width: width / n, height: 3, class: "histogram-shown" }, svg("title", {}, "in sight in the lists")));
    const named = marked.filter(({ kind, value: number }) => kind !== "shown" && binOf(number, edges) >= 0);
    for (const { kind, label, value: number } of named) {
      const at = x(binOf(number, edges) + 0.5, n);
      const shape = kind === "chosen" ? `M${at - 5} 1 h10 l-5 9 z` : `M${at - 4} 2 h8 l-4 7 z`; // full and hollow
      picture.append(svg("path", { d: shape, class: `histogram-mark ${kind}` }, svg("title", {}, `${label} (${kind}): ${signed(number)} ${units}`)));
    }
    const listed = named.slice(0, MARKS_SAID).map(({ kind, label, value: number }) => `${label} (${kind}) ${signed(number)}`);
    said.textContent = listed.length ? `▼ ${listed.join(", ")}${named.length > MARKS_SAID ? `, and ${named.length - MARKS_SAID} more` : ""}. Line below the axis: in sight in the lists.` : "";
  }
  /** @param {PointerEvent} event */
  const share = (event) => {
    const box = picture.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width * BARS_WIDTH - BARS_LEFT) / width;
  };
  picture.addEventListener("pointerdown", (event) => {
    if (!shown?.counts.length) return;
    dragged = share(event);
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener("pointermove", (event) => {
    if (dragged === null || !shown) return;
    const [first, last] = binsBetween(dragged, share(event), shown.counts.length);
    kept = [shown.edges[first], shown.edges[last + 1]];
    draw();
  });
  picture.addEventListener("pointerup", (event) => {
    if (dragged === null || !shown) return;
    const [first, last] = binsBetween(dragged, share(event), shown.counts.length);
    dragged = null;
    range(shown.edges[first], shown.edges[last + 1]);
  });
  async function load() {
    try {
      const answer = await question("list.histogram", {});
      if (answer === undefined) return;
      shown = answer;
      draw();
    } catch (error) {
      readout.textContent = inWords(error);
    }
  }
  root.addEventListener("toggle", () => root.open && load());
  return {
    root, load,
    isOpen: () => root.open,
    clear() {
      kept = [null, null];
      [low.value, high.value] = ["", ""];
      draw();
    },
    /** @param {Mark[]} marks */
    mark(marks) {
      marked = marks;
      if (root.open) draw();
    },
  };
}
