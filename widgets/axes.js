// @ts-check
// A small line chart: axes linear or logarithmic, lines told apart by dashes and words, a point moved by pointer or keys.
import { h, newId, svg } from "./dom.js";
import { digits } from "./words.js";

/** @typedef {{label: string, log: boolean, format?: (value: number) => string, domain?: [number, number]}} Axis */
/** @typedef {{name: string, look: string, x: (number | null)[], y: (number | null)[]}} Line look: data, law, other or third */
/** @typedef {{at: number, name: string, look: string}} Rule a horizontal line */
/** @typedef {{x: Axis, y: Axis, lines: Line[], rules?: Rule[], tell: (index: number) => string, summary: string}} Chart the point moves along the first line */

const CHART_EDGES = { top: 10, right: 26, bottom: 40, left: 54 };
const CHART_HEIGHT = 230;

/**
 * Marks of an axis: powers of ten, or 1, 2 and 5 times them where the range is short, or even steps; at most about seven.
 * @param {[number, number]} domain
 * @param {boolean} isLog
 */
export function axisTicks([low, high], isLog) {
  if (!(high > low)) return [low];
  if (!isLog) {
    const raw = (high - low) / 5;
    const size = 10 ** Math.floor(Math.log10(raw));
    const step = size * ([1, 2, 5, 10].find((one) => one * size >= raw) ?? 10);
    const first = Math.ceil(low / step - 1e-9);
    return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }
  const [from, to] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const every = Math.max(1, Math.ceil((to - from + 1) / 7));
  const powers = Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i).filter((power) => power % every === 0);
  if (powers.length > 2) return powers.map((power) => 10 ** power);
  return Array.from({ length: to - from + 3 }, (_, i) => from - 1 + i)
    .flatMap((power) => [1, 2, 5].map((one) => Number((one * 10 ** power).toPrecision(3))))
    .filter((value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9));
}

/** What is shown of numbers: those that the axis can place. @param {(number | null)[]} values @param {Axis} axis @returns {[number, number]} */
export function axisDomain(values, axis) {
  if (axis.domain) return axis.domain;
  const placed = values.filter((value) => value !== null && Number.isFinite(value) && (!axis.log || value > 0)).map(Number);
  if (placed.length === 0) return axis.log ? [1, 10] : [0, 1];
  const [low, high] = placed.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
  if (low < high) return [low, high];
  return axis.log ? [low / 2, low * 2] : [low - 1, low + 1];
}

/** A number on an axis: 0.01, 500, 10⁻⁸. @param {number} value */
export function axisNumber(value) {
  if (value === 0) return "0";
  const power = Math.floor(Math.log10(Math.abs(value)) + 1e-9);
  const digit = Number((value / 10 ** power).toPrecision(3));
  if (power >= -3 && power < 4) return String(Number(value.toPrecision(6)));
  const raised = String(power).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  return digit === 1 ? `10${raised}` : `${digit}×10${raised}`;
}

/**
 * The chart.
 * @param {string} label what is drawn
 */
export function lineChart(label) {
  const picture = svg("svg", { "aria-hidden": "true", focusable: "false" });
  const about = newId();
  const box = h("div", { role: "slider", tabindex: "0", class: "chart-box", "aria-label": `Point of: ${label}`, "aria-describedby": about, "aria-valuemin": "1" }, picture);
  const summary = h("p", { id: about, class: "unseen" });
  const readout = h("p", { class: "readout" });
  const legend = h("p", { class: "chart-legend soft" });
  const root = h("div", { class: "chart" }, box, legend, readout, summary);
  /** @type {Chart | null} */
  let shown = null;
  let at = -1;
  let width = 0;
  /** @type {(axis: "x" | "y", value: number) => number} */
  let place = () => 0;
  /** @type {SVGElement | null} */
  let dot = null;

  /** @param {number} value @param {[number, number]} domain @param {boolean} isLog */
  const part = (value, [low, high], isLog) => (isLog ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));

  function draw() {
    if (!shown) return;
    const { x, y, lines, rules = [] } = shown;
    const { top, right, bottom, left } = CHART_EDGES;
    width = Math.max(240, box.clientWidth || 420);
    const domains = { x: axisDomain(lines.flatMap((line) => line.x), x), y: axisDomain(lines.flatMap((line) => line.y), y) };
    place = (axis, value) => {
      const share = part(value, domains[axis], (axis === "x" ? x : y).log);
      return axis === "x" ? left + share * (width - left - right) : CHART_HEIGHT - bottom - share * (CHART_HEIGHT - top - bottom);
    };
    const clip = newId();
    picture.setAttribute("viewBox", `0 0 ${width} ${CHART_HEIGHT}`);
    picture.setAttribute("width", String(width));
    picture.setAttribute("height", String(CHART_HEIGHT));
    picture.replaceChildren(svg("clipPath", { id: clip }, svg("rect", { x: left, y: top - 2, width: width - left - right, height: CHART_HEIGHT - top - bottom + 4 })));
    for (const value of axisTicks(domains.x, x.log)) {
      const across = place("x", value);
      picture.append(svg("line", { class: "grid", x1: across, x2: across, y1: top, y2: CHART_HEIGHT - bottom }),
        svg("text", { x: across, y: CHART_HEIGHT - bottom + 14, "text-anchor": "middle" }, (x.format ?? axisNumber)(value)));
    }
    for (const value of axisTicks(domains.y, y.log)) {
      const up = place("y", value);
      picture.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: up, y2: up }),
        svg("text", { x: left - 5, y: up + 4, "text-anchor": "end" }, (y.format ?? axisNumber)(value)));
    }
    picture.append(svg("text", { class: "axis-name", x: left, y: CHART_HEIGHT - 8 }, `${x.label} →`),
      svg("text", { class: "axis-name", x: -(CHART_HEIGHT - bottom), y: 11, transform: "rotate(-90)" }, `${y.label} →`));
    for (const line of lines) picture.append(svg("path", { class: `curve ${line.look}`, d: trace(line), "clip-path": `url(#${clip})` }));
    for (const { at: value, name, look } of rules) {
      const up = place("y", value);
      if (!Number.isFinite(up)) continue;
      const edge = Math.max(top, Math.min(CHART_HEIGHT - bottom, up)); // beyond the axis it is drawn at its end
      picture.append(svg("line", { class: `curve ${look}`, x1: left, x2: width - right, y1: edge, y2: edge }),
        svg("text", { class: "rule-name", x: width - right - 4, y: edge < top + 16 ? edge + 14 : edge - 5, "text-anchor": "end" }, name));
    }
    dot = svg("circle", { class: "chart-dot", r: 4.5 });
    picture.append(dot);
    mark();
  }
  /** @param {Line} line */
  function trace(line) {
    let path = "";
    let isDown = false;
    line.x.forEach((value, i) => {
      const [across, up] = [value === null ? NaN : place("x", value), line.y[i] === null ? NaN : place("y", Number(line.y[i]))];
      const isPlaced = Number.isFinite(across) && Number.isFinite(up);
      if (isPlaced) path += `${isDown ? "L" : "M"}${across.toFixed(1)} ${up.toFixed(1)}`;
      isDown = isPlaced;
    });
    return path;
  }
  function mark() {
    const line = shown?.lines[0];
    const [x, y] = [line?.x[at], line?.y[at]];
    const [across, up] = [place("x", x ?? NaN), place("y", y ?? NaN)];
    const isPlaced = Number.isFinite(across) && Number.isFinite(up);
    dot?.setAttribute("visibility", isPlaced ? "visible" : "hidden");
    if (isPlaced) {
      dot?.setAttribute("cx", String(across));
      dot?.setAttribute("cy", String(up));
    }
    const said = shown && line && line.x.length ? shown.tell(at) : "";
    readout.textContent = said;
    box.setAttribute("aria-valuetext", said || "nothing to read");
    box.setAttribute("aria-valuenow", String(at + 1));
  }
  /** @param {number} to */
  function go(to) {
    const last = (shown?.lines[0]?.x.length ?? 0) - 1;
    at = Math.max(0, Math.min(last, to));
    mark();
  }
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const length = shown?.lines[0]?.x.length ?? 0;
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, PageUp: at + 10, PageDown: at - 10, Home: 0, End: length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    go(to);
  });
  box.addEventListener("pointermove", (event) => {
    const line = shown?.lines[0];
    if (!line) return;
    const across = (event.clientX - picture.getBoundingClientRect().left) * (width / (picture.getBoundingClientRect().width || width));
    const gaps = line.x.map((value) => Math.abs(place("x", value ?? NaN) - across)).map((gap) => (Number.isFinite(gap) ? gap : Infinity));
    go(gaps.indexOf(Math.min(...gaps)));
  });
  new ResizeObserver(() => box.clientWidth > 0 && box.clientWidth !== width && draw()).observe(box);
  return {
    root,
    /** @param {Chart} chart @param {boolean} [isSame] whether the point stays where it is */
    update(chart, isSame = false) {
      shown = chart;
      const length = chart.lines[0]?.x.length ?? 0;
      if (!isSame || at < 0 || at >= length) at = Math.min(0, length - 1);
      box.setAttribute("aria-valuemax", String(Math.max(1, length)));
      summary.textContent = `${label}. ${chart.summary}`;
      const named = chart.lines.filter((line) => line.name !== "");
      legend.replaceChildren(...named.map((line) => h("span", { class: "chart-key" },
        chartKey(line.look), line.name)));
      legend.hidden = named.length < 2;
      draw();
    },
  };
}

/** @param {string} look */
function chartKey(look) {
  return svg("svg", { width: 26, height: 8, "aria-hidden": "true", focusable: "false" }, svg("line", { class: `curve ${look}`, x1: 0, x2: 26, y1: 4, y2: 4 }));
}

/** A share on an axis: 0.01 %, 5 %, 100 %. @param {number} share */
export function axisPercent(share) {
  return `${axisNumber(Number((100 * share).toPrecision(6)))} %`;
}

/** A count, with commas as elsewhere. @param {number} count */
export function axisCount(count) {
  return count < 1e5 ? count.toLocaleString("en") : axisNumber(count);
}

/** A number with its unit, three digits, no sign. @param {number | null | undefined} value @param {string} units */
export function axisAmount(value, units) {
  return value === null || value === undefined || !Number.isFinite(value) ? "–" : `${digits(value)} ${units}`.trim();
}
