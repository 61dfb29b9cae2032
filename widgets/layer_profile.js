// @ts-check
// Where in the network an effect comes from: a bar for each layer, by block and kind; brush layers to rank by them alone.
import { button, h, newId, roving, svg } from "./dom.js";
import { widget } from "./host.js";
import { largest, percent, signed } from "./words.js";

/** @typedef {{name: string, block: number, role: string, kind: string, effect: number | null}} Layer block: -1 outside of the blocks */
/** @typedef {{layers: Layer[], chosen: string[], units: string, label: string}} Profile chosen: names; [] stands for all */
/** @typedef {{label: string, title: string, names: string[]}} LayerColumn */

const LAYER_ROW = 58;
const LAYER_GAP = 26; // between rows: the name of the next one
const LAYER_LEFT = 62;
const LAYER_THIRDS = /** @type {const} */ (["bottom", "middle", "top"]);
const LAYERS_OUTSIDE = "outside of the blocks";

/** One column a block, then one for each layer outside of the blocks. @param {Layer[]} layers @returns {LayerColumn[]} */
export function layerColumns(layers) {
  const blocks = [...new Set(layers.map((layer) => layer.block).filter((block) => block >= 0))].sort((a, b) => a - b);
  return [
    ...blocks.map((block) => ({ label: String(block), title: `block ${block}`, names: layers.filter((layer) => layer.block === block).map((layer) => layer.name) })),
    ...layers.filter((layer) => layer.block < 0).map(({ name }) => ({ label: name, title: name, names: [name] })),
  ];
}

/**
 * Bottom, middle and top third of the blocks, from the input to the output; of the layers where there are no blocks.
 * @param {Layer[]} layers
 * @returns {Record<"bottom" | "middle" | "top", {names: string[], title: string}>}
 */
export function layerThirds(layers) {
  const inBlocks = layers.filter((layer) => layer.block >= 0);
  const columns = layerColumns(inBlocks.length ? inBlocks : layers);
  const cut = [0, Math.round(columns.length / 3), Math.round((2 * columns.length) / 3), columns.length];
  const parts = LAYER_THIRDS.map((third, i) => {
    const mine = columns.slice(cut[i], cut[i + 1]);
    const ends = mine.length > 1 ? `${mine[0].title} to ${mine[mine.length - 1].label}` : mine[0]?.title ?? "none";
    return [third, { names: mine.flatMap((column) => column.names), title: ends }];
  });
  return Object.fromEntries(parts);
}

/** What is chosen after some layers were switched on or off; all of them, or none, is []. @param {Layer[]} layers @param {string[]} chosen @param {string[]} names @param {boolean} isOn */
export function layersToggled(layers, chosen, names, isOn) {
  const before = chosen.length ? chosen : layers.map((layer) => layer.name);
  const after = layers.map((layer) => layer.name).filter((name) => (names.includes(name) ? isOn : before.includes(name)));
  return after.length === layers.length ? [] : after;
}

/**
 * The profile.
 * @param {{onLayers(names: string[]): void}} actions onLayers is told the names, in the order of the network; [] for all
 */
export function layerProfile({ onLayers }) {
  const picture = svg("svg", { role: "presentation", focusable: "false" });
  const box = h("div", { role: "listbox", tabindex: "0", "aria-multiselectable": "true", "aria-label": "Layers", class: "layer-box" }, picture);
  const heading = h("h4", {});
  const readout = h("p", { class: "readout" });
  const status = h("output", { "aria-live": "polite" });
  const none = h("p", { class: "none" }, "No layers to show.");
  const thirds = LAYER_THIRDS.map((third) => button(`${third} third`, () => pick(parts[third].names)));
  const all = button("all", () => pick([]));
  const bar = h("div", { role: "group", "aria-label": "Rank by layers", class: "layer-bar" }, h("span", { class: "soft" }, "Rank by"), all, ...thirds);
  const blockBoxes = h("div", { role: "group", "aria-label": "Blocks", class: "layer-checks" });
  const roleBoxes = h("div", { role: "group", "aria-label": "Kinds", class: "layer-checks" });
  const more = h("details", { class: "layer-more" }, h("summary", {}, "Choose blocks and kinds"), blockBoxes, roleBoxes);
  const hint = h("p", { class: "soft layer-hint" }, "Drag over blocks, or use the arrow keys and the space bar, to rank by these layers alone.");
  const rover = roving(box, (index) => tell(index));
  /** @type {Profile} */
  let shown = { layers: [], chosen: [], units: "", label: "" };
  let parts = layerThirds([]);
  /** @type {LayerColumn[]} */
  let columns = [];
  /** @type {string[]} */
  let roles = [];
  /** @type {number | null} */
  let brushFrom = null;
  let brushTo = 0;
  let step = 20;
  let width = 0;

  /** @param {Layer} layer */
  const roleOf = (layer) => (layer.block < 0 ? LAYERS_OUTSIDE : layer.role);
  /** @param {Layer} layer */
  const columnOf = (layer) => columns.findIndex((column) => column.names.includes(layer.name));
  /** @param {string} name */
  const isChosen = (name) => shown.chosen.length === 0 || shown.chosen.includes(name);
  const sum = (/** @type {Layer[]} */ layers) => layers.reduce((total, layer) => total + (layer.effect ?? 0), 0);

  /** @param {string[]} names */
  function pick(names) {
    const kept = shown.layers.map((layer) => layer.name).filter((name) => names.includes(name));
    const next = kept.length === shown.layers.length ? [] : kept;
    if (next.join("\n") === shown.chosen.join("\n")) return draw();
    shown = { ...shown, chosen: next };
    draw();
    onLayers(next);
  }
  /** @param {number} index */
  function tell(index) {
    const layer = shown.layers[index];
    if (!layer) return void (readout.textContent = "");
    const total = sum(shown.layers);
    const part = layer.effect === null || total === 0 ? -1 : layer.effect / total;
    const share = part > 0 && part <= 1 ? ` · ${percent(part)} of the sum over layers` : ""; // signs that cancel make no shares
    const place = layer.block < 0 ? layer.name : `block ${layer.block}, ${layer.role}`;
    readout.replaceChildren(h("b", {}, signed(layer.effect)), ` ${shown.units} · ${place} (${layer.kind})${share}`);
  }
  /** Left edge of a column. @param {number} column */
  const edge = (column) => LAYER_LEFT + column * step;

  function draw() {
    const { layers } = shown;
    const isThere = layers.length > 0;
    for (const part of [box, readout, bar, more, status, hint]) part.hidden = !isThere;
    none.hidden = isThere;
    heading.textContent = shown.label;
    heading.hidden = shown.label === "";
    if (!isThere) return picture.replaceChildren();
    width = box.clientWidth || 460;
    step = Math.max(11, Math.min(44, (width - LAYER_LEFT - 8) / columns.length));
    const isNamed = columns.some((column) => column.label.length > 4);
    const bottom = isNamed ? 84 : 30;
    const [full, height] = [edge(columns.length) + (isNamed ? 30 : 8), roles.length * (LAYER_ROW + LAYER_GAP) + bottom];
    const pattern = newId();
    picture.setAttribute("viewBox", `0 0 ${full} ${height}`);
    picture.setAttribute("width", String(full));
    picture.setAttribute("height", String(height));
    picture.replaceChildren(svg("pattern", { id: pattern, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { class: "hatch-ground", width: 5, height: 5 }), svg("rect", { class: "hatch", width: 3, height: 5 })));
    const bars = height - bottom;
    if (shown.chosen.length) {
      columns.forEach((column, i) => column.names.some(isChosen) &&
        picture.append(svg("rect", { class: "layer-chosen", x: edge(i), y: 0, width: step, height: bars + 4 }), svg("rect", { class: "layer-under", x: edge(i), y: bars + 2, width: step, height: 3 })));
    }
    if (brushFrom !== null) {
      const [from, to] = [Math.min(brushFrom, brushTo), Math.max(brushFrom, brushTo)];
      picture.append(svg("rect", { class: "layer-brush", x: edge(from), y: 1, width: (to - from + 1) * step, height: bars + 3 }));
    }
    const effects = layers.map((layer) => layer.effect);
    const [high, low] = [Math.max(0, ...effects.map((effect) => effect ?? 0)), Math.min(0, ...effects.map((effect) => effect ?? 0))];
    const range = high - low || 1;
    roles.forEach((role, row) => drawRow(role, row * (LAYER_ROW + LAYER_GAP) + LAYER_GAP - 6, high, low, range, pattern));
    const every = Math.ceil(18 / step);
    columns.forEach((column, i) => {
      const across = edge(i) + step / 2;
      if (isNamed) picture.append(svg("text", { x: across, y: bars + 14, transform: `rotate(35 ${across} ${bars + 14})` }, column.label.length > 20 ? `…${column.label.slice(-19)}` : column.label));
      else if (i % every === 0) picture.append(svg("text", { x: across, y: bars + 16, "text-anchor": "middle" }, column.label));
    });
    if (!isNamed) picture.append(svg("text", { class: "axis-name", x: LAYER_LEFT - 6, y: bars + 16, "text-anchor": "end" }, "block"));
    const active = rover.active();
    rover.refill(options, Math.min(active, layers.length - 1));
    drawChoice();
  }
  /** @type {HTMLElement[]} */
  let options = [];
  /** @param {string} role @param {number} top @param {number} high @param {number} low @param {number} range @param {string} pattern */
  function drawRow(role, top, high, low, range, pattern) {
    const up = (/** @type {number} */ value) => top + ((high - value) / range) * LAYER_ROW;
    picture.append(svg("text", { class: "layer-role", x: LAYER_LEFT, y: top - 6 }, role));
    for (const value of new Set([high, 0, low])) {
      if (value !== 0 && Math.abs(value) < range / 5) continue; // its number would lie on that of 0
      picture.append(svg("line", { class: value === 0 ? "zero" : "grid", x1: LAYER_LEFT, x2: edge(columns.length), y1: up(value), y2: up(value) }),
        svg("text", { x: LAYER_LEFT - 5, y: up(value) + 4, "text-anchor": "end" }, signed(value)));
    }
    shown.layers.forEach((layer, index) => {
      if (roleOf(layer) !== role) return;
      const [left, value] = [edge(columnOf(layer)), layer.effect ?? 0];
      const isOn = isChosen(layer.name);
      picture.append(svg("rect", {
        class: `layer-bar-of ${value < 0 ? "negative" : "positive"}${isOn ? "" : " out"}`, x: left + step * 0.14, width: step * 0.72,
        y: Math.min(up(value), up(0)), height: Math.abs(up(value) - up(0)), ...(value < 0 ? { fill: `url(#${pattern})` } : {}),
      }));
      const option = svg("rect", { role: "option", class: "layer-option", "aria-selected": String(isOn), x: left, y: top - 2, width: step, height: LAYER_ROW + 4,
        "aria-label": `${layer.block < 0 ? layer.name : `block ${layer.block}, ${layer.role}`}, ${signed(layer.effect)}` });
      option.addEventListener("pointerenter", () => rover.point(index));
      options[index] = /** @type {HTMLElement} */ (/** @type {unknown} */ (option));
      picture.append(option);
    });
  }
  function drawChoice() {
    const { layers, chosen } = shown;
    const mine = layers.filter((layer) => isChosen(layer.name));
    all.setAttribute("aria-pressed", String(chosen.length === 0));
    LAYER_THIRDS.forEach((third, i) => {
      const names = parts[third].names;
      thirds[i].title = parts[third].title;
      thirds[i].setAttribute("aria-disabled", String(names.length === 0));
      thirds[i].setAttribute("aria-pressed", String(chosen.length > 0 && names.length === chosen.length && names.every((name) => chosen.includes(name))));
    });
    const [held, total] = [sum(mine), sum(layers)];
    const where = chosen.length ? `${mine.length} of ${layers.length} layers: ${signed(held)} of ${signed(total)} ${shown.units}` : `all ${layers.length} layers: ${signed(total)} ${shown.units}`;
    status.textContent = `Ranked by ${where}${chosen.length && total !== 0 && held / total >= 0 && held / total <= 1 ? ` (${percent(held / total)})` : ""}`;
    // A block is switched with the kinds that are chosen, a kind with the blocks that are.
    const inUse = { roles: new Set(mine.map(roleOf)), columns: new Set(mine.map(columnOf)) };
    checks(blockBoxes, columns.map((column, i) => ({ label: column.label, title: column.title, names: layers.filter((layer) => columnOf(layer) === i && (layer.block < 0 || inUse.roles.has(roleOf(layer)))).map((layer) => layer.name) })));
    checks(roleBoxes, roles.map((role) => ({ label: role, title: role, names: layers.filter((layer) => roleOf(layer) === role && inUse.columns.has(columnOf(layer))).map((layer) => layer.name) })));
  }
  /** @param {HTMLElement} place @param {LayerColumn[]} groups */
  function checks(place, groups) {
    if (place.children.length !== groups.length || groups.some((group, i) => place.children[i].textContent !== group.label)) {
      place.replaceChildren(...groups.map(({ label, title }, i) => {
        const input = h("input", { type: "checkbox", "aria-label": title });
        input.addEventListener("change", () => pick(layersToggled(shown.layers, shown.chosen, current.get(place)?.[i].names ?? [], input.checked)));
        return h("label", {}, input, label);
      }));
    }
    current.set(place, groups);
    groups.forEach(({ names }, i) => {
      const input = /** @type {HTMLInputElement} */ (place.children[i].firstElementChild);
      const count = names.filter(isChosen).length;
      [input.checked, input.indeterminate] = [count > 0, count > 0 && count < names.length];
    });
  }
  /** @type {Map<HTMLElement, LayerColumn[]>} */
  const current = new Map();

  /** @param {PointerEvent} event */
  function columnAt(event) {
    const across = event.clientX - picture.getBoundingClientRect().left;
    return Math.max(0, Math.min(columns.length - 1, Math.floor((across - LAYER_LEFT) / step)));
  }
  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || columns.length === 0) return;
    brushFrom = brushTo = columnAt(event);
    box.setPointerCapture(event.pointerId);
    draw();
  });
  box.addEventListener("pointermove", (event) => {
    if (brushFrom === null || columnAt(event) === brushTo) return;
    brushTo = columnAt(event);
    draw();
  });
  box.addEventListener("pointerup", (event) => {
    if (brushFrom === null) return;
    const [from, to] = [Math.min(brushFrom, brushTo), Math.max(brushFrom, brushTo)];
    brushFrom = null;
    const names = columns.slice(from, to + 1).flatMap((column) => column.names);
    const isSame = names.length === shown.chosen.length && names.every((name) => shown.chosen.includes(name));
    const isAdded = event.shiftKey || event.ctrlKey || event.metaKey;
    if (isAdded && shown.chosen.length) pick(layersToggled(shown.layers, shown.chosen, names, !names.every(isChosen)));
    else pick(isSame ? [] : names);
  });
  box.addEventListener("pointercancel", () => ((brushFrom = null), draw()));
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || shown.layers.length === 0) return;
    const at = rover.active();
    const layer = shown.layers[at];
    const to = { ArrowRight: () => beside(layer, 1), ArrowLeft: () => beside(layer, -1), ArrowDown: () => below(layer, 1), ArrowUp: () => below(layer, -1),
      Home: () => 0, End: () => shown.layers.length - 1, " ": () => at, Enter: () => at }[event.key];
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    const index = to();
    if (event.key === " " || event.key === "Enter") {
      const isOnly = shown.chosen.length === 0; // the first one picked is picked alone
      pick(isOnly ? [layer.name] : layersToggled(shown.layers, shown.chosen, [layer.name], !isChosen(layer.name)));
    } else {
      rover.point(index);
      const names = [layer, shown.layers[index]].flatMap((one) => columns[columnOf(one)].names);
      if (event.shiftKey && event.key.startsWith("Arrow")) pick([...shown.chosen, ...names]);
    }
  });
  /** The next layer of the same row. @param {Layer} layer @param {number} by */
  function beside(layer, by) {
    const row = shown.layers.filter((one) => roleOf(one) === roleOf(layer)).sort((a, b) => columnOf(a) - columnOf(b));
    return shown.layers.indexOf(row[Math.max(0, Math.min(row.length - 1, row.indexOf(layer) + by))]);
  }
  /** The layer of the next row, in the same column if there is one. @param {Layer} layer @param {number} by */
  function below(layer, by) {
    const role = roles[roles.indexOf(roleOf(layer)) + by];
    const row = shown.layers.filter((one) => roleOf(one) === role).sort((a, b) => Math.abs(columnOf(a) - columnOf(layer)) - Math.abs(columnOf(b) - columnOf(layer)));
    return row.length ? shown.layers.indexOf(row[0]) : shown.layers.indexOf(layer);
  }
  new ResizeObserver(() => box.clientWidth > 0 && box.clientWidth !== width && draw()).observe(box);
  return {
    root: h("div", { class: "layer-profile" }, heading, none, box, readout, bar, status, more, hint),
    /** @param {Profile} profile */
    update(profile) {
      const isSame = profile.layers.length === shown.layers.length && profile.layers.every((layer, i) => layer.name === shown.layers[i].name);
      shown = profile;
      if (!isSame) {
        [columns, parts, options] = [layerColumns(profile.layers), layerThirds(profile.layers), []];
        roles = [...new Set(profile.layers.map(roleOf))].sort((a, b) => Number(a === LAYERS_OUTSIDE) - Number(b === LAYERS_OUTSIDE));
        rover.refill([], 0);
        const sizes = profile.layers.map((layer) => Math.abs(layer.effect ?? 0));
        brushFrom = null;
        draw();
        return rover.point(sizes.indexOf(largest(sizes)));
      }
      draw();
    },
  };
}

/** Alone: the layers of an array; what is chosen is a trait. @param {import("./host.js").Host} host @returns {import("./host.js").Built} */
function layersAlone({ model, set }) {
  const view = layerProfile({ onLayers: (names) => set({ layers: names }) });
  const draw = () => view.update({ ...model.get("_profile"), chosen: model.get("layers") });
  return { children: [view.root], listeners: { "change:layers": draw, "change:_profile": draw }, start: draw };
}

export default widget("layer-profile", "Layer profile", layersAlone);
