// @ts-check
// Curvature: the spectrum of each layer, and a damping slider that scores the query again from the cached eigenbasis.
import { axisCount, lineChart } from "./axes.js";
import { button, h } from "./dom.js";
import { inWords, widget } from "./host.js";
import { digits, percent } from "./words.js";

/** @typedef {{layers: string[], layer: string, rank: number[], value: number[], size: number, mean: number, damping: number, fitted: number | null, note: string}} Spectrum fitted: relative; null when the fit's damping is absolute */
/** @typedef {{damping: number | null, seconds: number, source: string, agreement: number | null, overlap: number, top: number}} Rescored */
/** @typedef {import("./host.js").Ask} Ask */

const DAMPING_LOW = -6;
const DAMPING_HIGH = 2;
const DAMPING_PATIENCE = 150; // ms after the last change; arrow keys make many

/** Share of the eigenvalues below lambda, read from a thinned spectrum: between two ranks, even in the logarithm. @param {Pick<Spectrum, "rank" | "value" | "size">} spectrum @param {number} lambda */
export function shareBelow({ rank, value, size }, lambda) {
  const next = value.findIndex((one) => one < lambda);
  if (next < 0) return 0;
  if (next === 0) return 1;
  const [high, low] = [value[next - 1], value[next]];
  const part = low > 0 && high > low ? Math.log(high / lambda) / Math.log(high / low) : 1;
  const above = rank[next - 1] + part * (rank[next] - rank[next - 1] - 1);
  return Math.max(0, Math.min(1, 1 - above / size));
}

/** The newest question only: while one is on its way, later ones wait, and of those all but the last are dropped. @template T @param {(value: T) => Promise<void>} act */
export function lastOnly(act) {
  /** @type {{value: T} | null} */
  let waiting = null;
  let isBusy = false;
  return async (/** @type {T} */ value) => {
    waiting = { value };
    if (isBusy) return;
    isBusy = true;
    try {
      while (waiting) {
        const { value: now } = waiting;
        waiting = null;
        await act(now);
      }
    } finally {
      isBusy = false;
    }
  };
}

/** What scoring again has shown. @param {Rescored} answer */
export function rescoredWords({ damping, seconds, source, agreement, overlap, top }) {
  if (damping === null || source === "fitted") return "Ranked with the damping of the fit.";
  const from = source === "index" ? "from the index" : "by a pass over the training data";
  const same = agreement === null ? "" : ` Against the damping of the fit: rank correlation ${agreement.toFixed(2)}, ${overlap} of the first ${top} are the same.`;
  return `Scored again in ${seconds < 0.1 ? "less than 0.1" : seconds.toFixed(1)} s ${from}.${same}`;
}

/**
 * The panel. It asks for its spectra itself, when it is first drawn.
 * @param {{ask: Ask, onDamping(value: number | null, answer: Rescored): void}} actions onDamping is told when scores under
 *   a damping are there: relative to the mean eigenvalue, null for that of the fit
 */
export function curvaturePanel({ ask, onDamping }) {
  const slider = h("input", { type: "range", min: String(DAMPING_LOW), max: String(DAMPING_HIGH), step: "0.05", "aria-label": "Damping, logarithmic" });
  const field = h("input", { type: "number", min: String(10 ** DAMPING_LOW), max: String(10 ** DAMPING_HIGH), step: "any", "aria-label": "Damping, times the mean eigenvalue" });
  const fittedMark = h("span", { class: "damping-mark", "aria-hidden": "true" });
  const reset = button("Reset", () => choose(null), { title: "back to the damping of the fit" });
  const status = h("output", { "aria-live": "polite", class: "damping-status" });
  const alarm = h("p", { class: "problem", role: "alert", hidden: "" });
  const note = h("p", { class: "none" });
  const select = h("select", { "aria-label": "Layer" });
  const below = h("p", { class: "damping-below" });
  const chart = lineChart("Spectrum: eigenvalues of the layer by rank, both axes logarithmic");
  const controls = h("div", { class: "damping-controls" }, h("span", { class: "damping-name" }, "damping λ"), h("span", { class: "damping-track" }, slider, fittedMark),
    h("label", { class: "damping-field" }, field, "× mean eigenvalue"), reset);
  const picker = h("label", { class: "damping-layer" }, "Layer ", select);
  const body = h("div", {}, controls, status, picker, below, chart.root);
  /** @type {Map<string, Spectrum>} */
  const known = new Map();
  /** @type {Spectrum | null} */
  let shown = null;
  /** @type {number | null} null: as fitted */
  let wanted = null;
  let position = -1;
  let canRescore = true;
  let isOpen = false;
  let isMoved = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let patience;

  /** @param {string} words */
  function complain(words) {
    alarm.textContent = words;
    alarm.hidden = words === "";
  }
  const lambda = () => (shown ? (wanted === null ? shown.damping : wanted * shown.mean) : 0);

  const read = lastOnly(async (/** @type {string | null} */ layer) => {
    try {
      const found = (layer !== null && known.get(layer)) || (await ask("curvature.spectrum", { layer }));
      if (found.layer) known.set(found.layer, found);
      shown = found;
      isOpen = true;
      complain("");
      drawAll();
    } catch (error) {
      complain(`The spectrum could not be read: ${inWords(error)}`);
    }
  });
  const rescore = lastOnly(async (/** @type {{position: number, damping: number | null}} */ asked) => {
    status.textContent = "Scoring again …";
    try {
      /** @type {Rescored} */
      const answer = await ask("curvature.rescore", asked);
      if (asked.position !== position || asked.damping !== wanted) return; // a newer one follows
      complain("");
      status.textContent = rescoredWords(answer);
      onDamping(asked.damping, answer);
    } catch (error) {
      if (asked.position !== position || asked.damping !== wanted) return;
      status.textContent = "";
      complain(`Scoring again failed: ${inWords(error)}`);
    }
  });
  function send() {
    clearTimeout(patience);
    patience = setTimeout(() => canRescore && rescore({ position, damping: wanted }), DAMPING_PATIENCE);
  }
  /** @param {number | null} value */
  function choose(value) {
    if (value === wanted) return;
    wanted = value;
    drawDamping();
    send();
  }
  function drawDamping() {
    if (!shown) return;
    const relative = wanted ?? shown.fitted ?? (shown.mean > 0 ? shown.damping / shown.mean : 1);
    const power = Math.max(DAMPING_LOW, Math.min(DAMPING_HIGH, Math.log10(relative)));
    slider.value = String(power);
    slider.setAttribute("aria-valuetext", `${digits(relative)} times the mean eigenvalue${wanted === null ? ", as fitted" : ""}`);
    if (document.activeElement !== field) field.value = String(Number(relative.toPrecision(3)));
    reset.setAttribute("aria-disabled", String(wanted === null));
    const at = lambda();
    below.replaceChildren(h("b", {}, percent(shareBelow(shown, at))), ` of the directions of this layer lie below λ = ${digits(at)} nat²: there, λ stands for the curvature.`);
    const { rank, value, mean } = shown;
    const [most, least] = [Math.max(value[0], mean * 10 ** DAMPING_HIGH), Math.min(mean * 10 ** DAMPING_LOW, Math.max(value[value.length - 1], value[0] * 1e-12))];
    const spectrum = shown;
    chart.update({
      x: { label: "rank of the eigenvalue", log: true, format: axisCount },
      y: { label: "eigenvalue, nat²", log: true, domain: most > 0 ? [least > 0 ? least : most * 1e-12, most] : [0.1, 10] },
      lines: [{ name: "eigenvalues", look: "data", x: rank, y: value }],
      rules: at > 0 ? [{ at, name: wanted === null ? "λ, as fitted" : "λ", look: "law" }] : [],
      tell: (i) => `eigenvalue ${axisCount(spectrum.rank[i])} of ${axisCount(spectrum.size)}: ${digits(Math.max(0, spectrum.value[i]))} nat², ${spectrum.value[i] < lambda() ? "below λ" : "above λ"}`,
      summary: `${percent(shareBelow(shown, at))} lie below lambda.`,
    }, true);
  }
  function drawAll() {
    if (!shown) return;
    const hasSpectrum = shown.layers.length > 0;
    body.hidden = !hasSpectrum;
    note.textContent = shown.note;
    note.hidden = shown.note === "";
    if (!hasSpectrum) return;
    if (select.options.length !== shown.layers.length) select.replaceChildren(...shown.layers.map((name) => h("option", { value: name }, name)));
    select.value = shown.layer;
    fittedMark.hidden = shown.fitted === null || !(shown.fitted > 0);
    if (shown.fitted) {
      const share = Math.max(0, Math.min(1, (Math.log10(shown.fitted) - DAMPING_LOW) / (DAMPING_HIGH - DAMPING_LOW)));
      fittedMark.style.setProperty("--share", String(share));
      fittedMark.textContent = `fitted ${digits(shown.fitted).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "")}`;
    }
    controls.hidden = status.hidden = !canRescore;
    drawDamping();
  }
  slider.addEventListener("input", () => {
    wanted = Number((10 ** Number(slider.value)).toPrecision(3));
    isMoved = true;
    drawDamping();
    clearTimeout(patience); // while the slider moves nothing is asked
  });
  // Dragged back to where it was it fires no change, and an answer may have been dropped on the way.
  for (const event of ["change", "pointerup"]) slider.addEventListener(event, () => isMoved && ((isMoved = false), send()));
  field.addEventListener("change", () => {
    const value = Number(field.value);
    const isRight = field.value !== "" && value >= 10 ** DAMPING_LOW && value <= 10 ** DAMPING_HIGH;
    complain(isRight ? "" : `The damping must lie between ${10 ** DAMPING_LOW} and ${10 ** DAMPING_HIGH} times the mean eigenvalue.`);
    if (isRight) choose(value);
  });
  field.addEventListener("blur", drawDamping);
  select.addEventListener("change", () => read(select.value));
  body.hidden = note.hidden = true;
  return {
    root: h("div", { class: "curvature" }, note, alarm, body),
    /** @param {{position: number, damping?: number | null, canRescore?: boolean}} data damping: set by others; undefined leaves it */
    update(data) {
      const isNew = data.position !== position;
      position = data.position;
      canRescore = data.canRescore ?? true;
      if (data.damping !== undefined && data.damping !== wanted) choose(data.damping);
      else if (isNew && wanted !== null) send(); // another query under the damping chosen
      if (isOpen) drawAll();
      else read(null);
    },
    close: () => clearTimeout(patience),
  };
}

/** Alone: one method and its queries. @param {import("./host.js").Host} host @returns {import("./host.js").Built} */
function curvatureAlone({ model, ask, set }) {
  const view = curvaturePanel({ ask, onDamping: (value) => set({ damping: value }) });
  const draw = () => view.update({ position: model.get("position"), damping: model.get("damping"), canRescore: model.get("_can_rescore") });
  return { children: [view.root], listeners: { "change:position": draw, "change:damping": draw }, start: draw, cleanUp: view.close };
}

export default widget("curvature", "Curvature", curvatureAlone);
