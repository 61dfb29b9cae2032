// @ts-check
// A measure of one query, and where it lies among all queries of the batch.
import { h, svg } from "./dom.js";
import { twoDigits } from "./score_scatter.js";

/** Median and the middle half of numbers, null left out; null when there are none. @param {(number | null)[]} values */
export function middleHalf(values) {
  const sorted = values.filter((value) => value !== null).sort((a, b) => Number(a) - Number(b)).map(Number);
  if (!sorted.length) return null;
  /** @param {number} share */
  const at = (share) => {
    const place = share * (sorted.length - 1);
    const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
    return low + (high - low) * (place - Math.floor(place));
  };
  return { low: at(0.25), median: at(0.5), high: at(0.75) };
}

/**
 * @param {string} title
 * @param {string} about
 * @param {[number, number]} ends
 * @param {(position: number) => void} onStep
 */
export function measureCard(title, about, ends, onStep) {
  const number = h("b", { class: "compare-number" });
  const detail = h("span", { class: "soft" });
  const strip = svg("svg", { viewBox: "0 0 200 34", class: "compare-strip", role: "img" });
  const words = h("p", { class: "soft" });
  /** @param {number} value */
  const x = (value) => 6 + (188 * (value - ends[0])) / (ends[1] - ends[0]);
  return {
    root: h("div", { class: "compare-measure" }, h("p", { class: "compare-title", title: about }, title), h("p", {}, number, " ", detail), strip, words),
    /** @param {string} text @param {string} more */
    tell(text, more) {
      number.textContent = text;
      detail.textContent = more;
    },
    /** @param {(number | null)[]} values of all queries @param {number} position @param {string[]} labels */
    draw(values, position, labels) {
      const found = middleHalf(values);
      strip.toggleAttribute("hidden", found === null || values.length < 2);
      words.hidden = found === null || values.length < 2;
      if (found === null || values.length < 2) return;
      words.textContent = `${values.length} queries: median ${twoDigits(found.median)}, middle half ${twoDigits(found.low)} to ${twoDigits(found.high)}`;
      strip.setAttribute("aria-label", `${title}, ${words.textContent}`);
      strip.replaceChildren(
        svg("line", { x1: 6, x2: 194, y1: 17, y2: 17, class: "compare-axis" }),
        svg("text", { x: 6, y: 32 }, String(ends[0]).replace("-", "−")),
        svg("text", { x: 194, y: 32, "text-anchor": "end" }, String(ends[1])),
        svg("rect", { x: x(found.low), y: 8, width: Math.max(1, x(found.high) - x(found.low)), height: 18, rx: 2, class: "compare-half" }),
        svg("line", { x1: x(found.median), x2: x(found.median), y1: 6, y2: 28, class: "compare-median" }),
      );
      values.forEach((value, i) => {
        if (value === null || i === position) return;
        const dot = svg("circle", { cx: x(value), cy: 17 + (((i * 7) % 11) - 5), r: 2.6, class: "compare-dot" }, svg("title", {}, `query ${i + 1}: ${twoDigits(value)} ${labels[i]}`));
        dot.addEventListener("click", () => onStep(i));
        strip.append(dot);
      });
      const mine = values[position];
      if (mine !== null && mine !== undefined) strip.append(svg("path", { d: `M${x(mine)} 25l5 8h-10z`, class: "compare-here" }));
    },
  };
}
