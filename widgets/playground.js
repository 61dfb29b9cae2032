// @ts-check
// A plane of points that are dragged, or moved by keys, and sliders; lines, sizes and words follow.
import { axisNumber, axisTicks } from "./axes.js";
import { h, newId, svg } from "./dom.js";
import { widget } from "./host.js";
import { digits } from "./words.js";

/** @typedef {{label: string, low: number, high: number}} PlaneAxis */
/** @typedef {{name: string, label: string, low: number, high: number, isLog: boolean}} PlaneSlider */
/** @typedef {{x: PlaneAxis, y: PlaneAxis, move: "both" | "x" | "y" | "none", sliders: PlaneSlider[], label: string}} Plane */
/** @typedef {{name: string, look: string, x: (number | null)[], y: (number | null)[]}} PlaneLine */
/** @typedef {{lines: PlaneLine[], sizes: number[] | null, marks: string[], words: string}} Drawn sizes: 0 to 1, by area */

const PLANE_EDGES = { top: 10, right: 16, bottom: 40, left: 54 };
const PLANE_HEIGHT = 320;
const PLANE_STEPS = 50; // key presses from one end of an axis to the other
const SLIDER_STEPS = 200;

/** Where a value of a slider stands, 0 to 1, and back. @param {PlaneSlider} slider */
export function sliderScale({ low, high, isLog }) {
  const [from, to] = isLog ? [Math.log(low), Math.log(high)] : [low, high];
  return {
    share: (/** @type {number} */ value) => ((isLog ? Math.log(value) : value) - from) / (to - from),
    value: (/** @type {number} */ share) => Number((isLog ? Math.exp(from + share * (to - from)) : from + share * (to - from)).toPrecision(4)),
  };
}

/** A point where it may go: inside of the axes, and only along those that are free. @param {Plane} plane @param {[number, number]} from @param {[number, number]} to @returns {[number, number]} */
export function placed({ x, y, move }, from, to) {
  const within = (/** @type {number} */ value, /** @type {PlaneAxis} */ axis) => Math.min(axis.high, Math.max(axis.low, value));
  return [move === "both" || move === "x" ? within(to[0], x) : from[0], move === "both" || move === "y" ? within(to[1], y) : from[1]];
}

/** @param {import("./host.js").Host} host @returns {import("./host.js").Built} */
function playground({ model, set, root }) {
  /** @type {Plane} */
  const plane = model.get("_plane");
  const picture = svg("svg", { role: "group", "aria-label": `${plane.label}: points`, focusable: "false" });
  const box = h("div", { class: "plane-box" }, picture);
  const legend = h("p", { class: "chart-legend soft" });
  const words = h("output", { class: "plane-words", "aria-live": "polite" });
  const controls = h("div", { class: "plane-sliders" }, ...plane.sliders.map(sliderRow));
  const hint = plane.move === "none" ? "" : "Drag a point, or go to it with Tab and move it with the arrow keys (with Shift: in small steps).";
  root.setAttribute("aria-label", plane.label);
  /** @type {[number, number][]} */
  let points = model.get("points").map((/** @type {[number, number]} */ point) => [...point]);
  /** @type {SVGElement[]} */
  let dots = [];
  let width = 0;
  let isWaiting = false; // for Python to follow the last change
  let isDue = false;
  /** @type {number | null} */
  let dragged = null;

  const span = (/** @type {PlaneAxis} */ axis) => axis.high - axis.low;
  const across = (/** @type {number} */ value) => PLANE_EDGES.left + ((value - plane.x.low) / span(plane.x)) * (width - PLANE_EDGES.left - PLANE_EDGES.right);
  const up = (/** @type {number} */ value) => PLANE_HEIGHT - PLANE_EDGES.bottom - ((value - plane.y.low) / span(plane.y)) * (PLANE_HEIGHT - PLANE_EDGES.top - PLANE_EDGES.bottom);
  /** @param {PointerEvent} event @returns {[number, number]} */
  function under(event) {
    const seen = picture.getBoundingClientRect();
    const [px, py] = [(event.clientX - seen.left) * (width / seen.width), (event.clientY - seen.top) * (PLANE_HEIGHT / seen.height)];
    return [
      plane.x.low + ((px - PLANE_EDGES.left) / (width - PLANE_EDGES.left - PLANE_EDGES.right)) * span(plane.x),
      plane.y.low + ((PLANE_HEIGHT - PLANE_EDGES.bottom - py) / (PLANE_HEIGHT - PLANE_EDGES.top - PLANE_EDGES.bottom)) * span(plane.y),
    ];
  }
  /** Tell Python, but never faster than it answers. */
  function send() {
    if (isWaiting) return void (isDue = true);
    isWaiting = true;
    setTimeout(settled, 500, true); // an answer that equals the last one brings no event
    set({ points: points.map((point) => [...point]) });
  }
  function settled() {
    isWaiting = false;
    if (isDue) {
      isDue = false;
      send();
    }
  }
  /** @param {number} index @param {[number, number]} to */
  function move(index, to) {
    points[index] = placed(plane, points[index], to);
    mark(index);
    send();
  }
  /** @param {number} index */
  function mark(index) {
    const [x, y] = points[index];
    const said = `${plane.x.label} ${axisNumber(Number(x.toPrecision(3)))}, ${plane.y.label} ${axisNumber(Number(y.toPrecision(3)))}`;
    for (const [name, value] of Object.entries({ cx: across(x), cy: up(y), "aria-valuenow": y, "aria-valuetext": said })) dots[index].setAttribute(name, String(value));
  }
  /** @param {KeyboardEvent} event @param {number} index */
  function onKey(event, index) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const size = event.shiftKey ? 10 * PLANE_STEPS : PLANE_STEPS;
    move(index, [points[index][0] + (step[0] * span(plane.x)) / size, points[index][1] + (step[1] * span(plane.y)) / size]);
  }
  /** @param {number} index */
  function dot(index) {
    const made = svg("circle", {
      class: plane.move === "none" ? "plane-dot" : "plane-dot free", tabindex: plane.move === "none" ? -1 : 0, role: "slider",
      "aria-label": `Point ${index + 1}`, "aria-valuemin": plane.y.low, "aria-valuemax": plane.y.high, "aria-orientation": "vertical",
    });
    made.addEventListener("keydown", (event) => onKey(/** @type {KeyboardEvent} */ (event), index));
    if (plane.move === "none") return made;
    made.addEventListener("pointerdown", (event) => {
      const pressed = /** @type {PointerEvent} */ (event);
      event.preventDefault();
      /** @type {any} */ (made).focus();
      made.setPointerCapture(pressed.pointerId);
      dragged = index;
    });
    made.addEventListener("pointermove", (event) => dragged === index && move(index, under(/** @type {PointerEvent} */ (event))));
    for (const end of ["pointerup", "pointercancel"]) made.addEventListener(end, () => (dragged = null));
    return made;
  }
  function draw() {
    width = Math.max(280, Math.min(720, box.clientWidth || 560));
    const { top, right, bottom, left } = PLANE_EDGES;
    /** @type {Drawn} */
    const { lines, sizes, marks, words: said } = model.get("_drawn");
    const clip = newId();
    const focused = dots.findIndex((one) => one === one.ownerDocument.activeElement);
    if (dots.length !== points.length) dots = points.map((_, index) => dot(index));
    for (const [name, value] of Object.entries({ viewBox: `0 0 ${width} ${PLANE_HEIGHT}`, width, height: PLANE_HEIGHT })) picture.setAttribute(name, String(value));
    const back = svg("g", { "aria-hidden": "true" }, svg("clipPath", { id: clip }, svg("rect", { x: left, y: top, width: width - left - right, height: PLANE_HEIGHT - top - bottom })));
    for (const value of axisTicks([plane.x.low, plane.x.high], false))
      back.append(svg("line", { class: "grid", x1: across(value), x2: across(value), y1: top, y2: PLANE_HEIGHT - bottom }),
        svg("text", { x: across(value), y: PLANE_HEIGHT - bottom + 14, "text-anchor": "middle" }, axisNumber(value)));
    for (const value of axisTicks([plane.y.low, plane.y.high], false))
      back.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: up(value), y2: up(value) }),
        svg("text", { x: left - 5, y: up(value) + 4, "text-anchor": "end" }, axisNumber(value)));
    back.append(svg("text", { x: left, y: PLANE_HEIGHT - 8 }, `${plane.x.label} →`),
      svg("text", { x: -(PLANE_HEIGHT - bottom), y: 11, transform: "rotate(-90)" }, `${plane.y.label} →`));
    for (const line of lines) back.append(svg("path", { class: `curve ${line.look}`, d: trace(line), "clip-path": `url(#${clip})` }));
    // The dots stay the same elements: one that is being dragged keeps the pointer, one that has the focus keeps it.
    picture.querySelector("g")?.remove();
    picture.prepend(back);
    dots.forEach((one, index) => {
      if (one.parentNode !== picture) picture.append(one);
      one.setAttribute("r", String(sizes ? 3 + 11 * Math.sqrt(Math.max(0, Math.min(1, sizes[index] ?? 0))) : 6));
      one.setAttribute("aria-label", `Point ${index + 1}${marks[index] ? `, ${marks[index]}` : ""}`);
      one.replaceChildren(svg("title", {}, marks[index] || `point ${index + 1}`));
      mark(index);
    });
    if (focused >= 0) /** @type {any} */ (dots[focused])?.focus();
    legend.replaceChildren(...lines.filter((line) => line.name).map((line) => h("span", { class: "chart-key" },
      svg("svg", { width: 26, height: 8, "aria-hidden": "true" }, svg("line", { class: `curve ${line.look}`, x1: 0, x2: 26, y1: 4, y2: 4 })), line.name)));
    words.textContent = said;
  }
  /** @param {PlaneLine} line */
  function trace(line) {
    let path = "";
    let isDown = false;
    line.x.forEach((value, i) => {
      const other = line.y[i];
      const isThere = value !== null && other !== null;
      if (isThere) path += `${isDown ? "L" : "M"}${across(value).toFixed(1)} ${up(other).toFixed(1)}`;
      isDown = isThere;
    });
    return path;
  }
  /** @param {PlaneSlider} slider */
  function sliderRow(slider) {
    const scale = sliderScale(slider);
    const shown = h("output", {});
    const id = newId();
    const input = h("input", { type: "range", id, min: "0", max: String(SLIDER_STEPS), step: "1" });
    const tell = () => {
      const value = model.get("values")[slider.name];
      input.value = String(Math.round(scale.share(value) * SLIDER_STEPS));
      shown.textContent = digits(value);
      input.setAttribute("aria-valuetext", digits(value));
    };
    input.addEventListener("input", () => set({ values: { ...model.get("values"), [slider.name]: scale.value(Number(input.value) / SLIDER_STEPS) } }));
    model.on("change:values", tell);
    tell();
    return h("div", { class: "plane-slider" }, h("label", { for: id }, slider.label), input, shown);
  }
  const follow = () => (draw(), settled());
  function taken() {
    if (dragged !== null || isWaiting) return; // what is being dragged is newer than what Python says
    points = model.get("points").map((/** @type {[number, number]} */ point) => [...point]);
    draw();
  }
  const watch = new ResizeObserver(() => box.clientWidth > 0 && Math.min(720, box.clientWidth) !== width && draw());
  return {
    children: [h("div", { class: "chart plane" }, controls, box, legend, words, h("p", { class: "soft plane-hint" }, hint))],
    listeners: { "change:_drawn": follow, "change:points": taken },
    start: () => (draw(), watch.observe(box)),
    cleanUp: () => watch.disconnect(),
  };
}

export default widget("playground", "Playground", playground);
