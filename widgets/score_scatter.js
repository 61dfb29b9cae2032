// @ts-check
// Every sequence's score by the one against its score by the other.
import { h, svg } from "./dom.js";
import { signed } from "./words.js";

/** @typedef {import("./dom.js").Plain} Plain */
/** @typedef {import("./slope_chart.js").CompareAnswer} CompareAnswer */

/** A correlation or a share. @param {number | null} value */
export function twoDigits(value) {
  return value === null ? "–" : value.toFixed(2).replace("-", "−");
}

/** Lowest and highest of an axis: the numbers and 0, with a margin. @param {number[]} values */
export function axisSpan(values) {
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [0, 0]);
  const room = (high - low || 1) * 0.04;
  return [low - room, high + room];
}

/** @param {(train: Plain) => void} onPick */
export function scoreScatter(onPick) {
  const [width, height, edge] = [420, 300, 46];
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "compare-scatter" });
  const readout = h("p", { class: "readout" });
  const legend = h("p", { class: "soft compare-legend" });
  const side = h("div", {}, readout, legend); // room for what goes beside the picture
  const axes = h("select", { "aria-label": "Axes of the scatter" }, h("option", { value: "value" }, "scores"), h("option", { value: "rank" }, "ranks"));
  /** @type {{answer: CompareAnswer, x: number[], y: number[]} | null} */
  let drawn = null;
  /** @type {Plain} */
  let selected = null;

  /** @param {CompareAnswer} answer @param {number} i */
  const markInWords = (answer, i) => {
    const marks = answer.scatter;
    const by = (/** @type {number} */ s) => `${answer.names[s]} ${signed(marks.value[s][i])}, place ${marks.rank[s][i].toLocaleString("en")}`;
    return `Sequence ${marks.train[i]}: ${by(0)}; ${by(1)}`;
  };
  /** @param {MouseEvent} event */
  function nearest(event) {
    if (!drawn) return -1;
    const box = picture.getBoundingClientRect();
    const [px, py] = [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
    let [best, least] = [-1, 12 ** 2];
    drawn.x.forEach((x, i) => {
      const far = (x - px) ** 2 + (/** @type {{y: number[]}} */ (drawn).y[i] - py) ** 2;
      if (far < least) [best, least] = [i, far];
    });
    return best;
  }
  /** @param {number} i */
  function tell(i) {
    if (!drawn) return;
    const shown = i >= 0 ? i : drawn.answer.scatter.train.indexOf(selected);
    readout.textContent = shown >= 0 ? markInWords(drawn.answer, shown) : "Point at a mark to read it; a click picks its sequence.";
  }
  picture.addEventListener("mousemove", (event) => tell(nearest(event)));
  picture.addEventListener("mouseleave", () => tell(-1));
  picture.addEventListener("click", (event) => {
    const i = nearest(event);
    if (drawn && i >= 0) onPick(drawn.answer.scatter.train[i]);
  });
  axes.addEventListener("change", () => drawn && draw(drawn.answer));

  /** @param {string} kind of a mark @param {number} x @param {number} y */
  function mark(kind, x, y) {
    if (kind === "both") return svg("rect", { x: x - 3.5, y: y - 3.5, width: 7, height: 7, class: "compare-mark both" });
    if (kind === "left") return svg("path", { d: `M${x - 4.5} ${y}l7 -4.5v9z`, class: "compare-mark left" });
    if (kind === "right") return svg("path", { d: `M${x + 4.5} ${y}l-7 -4.5v9z`, class: "compare-mark right" });
    return svg("circle", { cx: x, cy: y, r: 2, class: "compare-mark rest" });
  }
  /** @param {CompareAnswer} answer */
  function draw(answer) {
    const { scatter: marks, names, units } = answer;
    const byRank = axes.value === "rank";
    const values = byRank ? marks.rank : marks.value;
    /** @type {number[][]} */
    const ends = byRank ? [0, 1].map(() => [answer.n * 1.03 + 1, -answer.n * 0.03]) : values.map(axisSpan);
    const x = values[0].map((value) => edge + ((width - edge - 8) * (value - ends[0][0])) / (ends[0][1] - ends[0][0]));
    const y = values[1].map((value) => height - edge + ((edge + 8 - height) * (value - ends[1][0])) / (ends[1][1] - ends[1][0]));
    drawn = { answer, x, y };
    picture.replaceChildren(svg("path", { d: `M${edge} 8V${height - edge}H${width - 8}`, class: "compare-axis", fill: "none" }));
    if (!byRank) {
      const zero = [edge + ((width - edge - 8) * -ends[0][0]) / (ends[0][1] - ends[0][0]), height - edge + ((edge + 8 - height) * -ends[1][0]) / (ends[1][1] - ends[1][0])];
      picture.append(svg("path", { d: `M${zero[0]} 8V${height - edge}M${edge} ${zero[1]}H${width - 8}`, class: "compare-zero" }));
    }
    const shapes = ["rest", "left", "right", "both"];
    // What is on a list lies above the rest.
    for (const wanted of [0, 1, 2, 3]) marks.group.forEach((group, i) => group === wanted && picture.append(mark(shapes[wanted], x[i], y[i])));
    const here = marks.train.indexOf(selected);
    if (here >= 0) picture.append(svg("circle", { cx: x[here], cy: y[here], r: 8, class: "compare-ring" }));
    const extremes = byRank ? [["1", answer.n.toLocaleString("en")], ["1", answer.n.toLocaleString("en")]] : values.map((all) => [signed(Math.max(...all, 0)), signed(Math.min(...all, 0))]);
    const title = (/** @type {number} */ s) => `${names[s]}, ${byRank ? "rank" : units[s]}`;
    picture.append(
      svg("text", { x: width - 8, y: height - edge + 15, "text-anchor": "end" }, extremes[0][0]),
      svg("text", { x: edge, y: height - edge + 15 }, extremes[0][1]),
      svg("text", { x: (width + edge) / 2, y: height - 10, "text-anchor": "middle", class: "compare-name" }, title(0)),
      svg("text", { x: edge - 4, y: 18, "text-anchor": "end" }, extremes[1][0]),
      svg("text", { x: edge - 4, y: height - edge, "text-anchor": "end" }, extremes[1][1]),
      svg("text", { transform: `translate(12 ${(height - edge) / 2}) rotate(-90)`, "text-anchor": "middle", class: "compare-name" }, title(1)),
    );
    const count = [0, 1, 2, 3].map((group) => marks.group.filter((one) => one === group).length);
    picture.setAttribute("aria-label", `Each sequence's ${byRank ? "rank" : "score"} by ${names[0]} against that by ${names[1]}: ${count[3]} marks on both lists, ${count[1]} on the left list only, ${count[2]} on the right list only. Spearman ${twoDigits(answer.spearman)}.`);
    const thinned = marks.train.length < marks.of ? ` ${marks.train.length.toLocaleString("en")} of ${marks.of.toLocaleString("en")} sequences are drawn: the first 100 from either end by both, and others at random.` : "";
    legend.textContent = `■ on both lists, ◀ ${names[0]} only, ▶ ${names[1]} only, ● on neither.${thinned}`;
    tell(-1);
  }
  return {
    root: h("div", { class: "compare-plot" }, h("label", { class: "compare-control" }, "Axes ", axes), picture, side),
    side,
    update: draw,
    /** @param {Plain} train */
    choose(train) {
      selected = train;
      if (drawn) draw(drawn.answer);
    },
  };
}
