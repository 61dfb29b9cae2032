// @ts-check
// What if: documents were left out, or a sentence had been written otherwise. inflab/widgets/what_if.py answers.
import { button, h } from "./dom.js";
import { inWords, newest, widget } from "./host.js";
import { waiting } from "./waiting.js";
import { digits, signed } from "./words.js";

/** @typedef {import("./dom.js").Plain} Plain */
/** @typedef {{train: Plain, value: number | null, text: string}} WhatIfOne */
/** @typedef {{effect: number | null, percent?: number | null, measured?: number | null, measured_se?: number | null, measured_percent?: number | null}} WhatIfNumbers */
/** @typedef {WhatIfNumbers & {trains: Plain[], units: string, is_contrast?: boolean, n_query: number, batch: (WhatIfNumbers & {position: number, id: Plain, prompt: string, completion: string})[]}} WhatIfRemoved */
/** @typedef {{train: Plain, before: string, text: string, original: number, edited: number, difference: number, units: string, is_effect: boolean, note: string, log_probability: number[] | null}} WhatIfEdited */

const WHAT_IF_FAR = "This is first order: beyond 1 nat, take its size with care.";
const WHAT_IF_GRADIENT = "A sentence that the model finds unlikely (log-probability) has a larger gradient, so more influence of either sign.";

/** "−3.20 nat (−95.9 %)"; without units where the head of a table has them. @param {number | null | undefined} nats @param {number | null | undefined} percent @param {string} [units] @param {number | null} [spread] standard error */
export function changeWords(nats, percent, units = "", spread = null) {
  if (nats === null || nats === undefined) return "–";
  const about = spread === null ? "" : ` ± ${digits(Math.abs(spread))}`;
  const share = percent === null || percent === undefined ? "" : ` (${percent < 0 ? "−" : "+"}${digits(Math.abs(percent))} %)`;
  return `${signed(nats)}${about}${units && ` ${units}`}${share}`;
}

/** What was found when documents were left out, in a sentence. @param {WhatIfRemoved} found */
export function removedWords(found) {
  const many = found.trains.length === 1 ? "this document" : `these ${found.trains.length} documents together`;
  const effect = found.effect ?? 0;
  const which = found.is_contrast ? "the first completion " : "";
  const against = found.is_contrast ? " against the second" : "";
  const meaning = effect === 0 ? "" : `: ${which}${effect < 0 ? "less" : "more"} likely${against}`;
  const predicted = `Leaving out ${many} is predicted to change this query by ${changeWords(found.effect, found.percent, found.units)}${meaning}.`;
  if (found.measured === undefined) return Math.abs(effect) > 1 ? `${predicted} ${WHAT_IF_FAR}` : predicted;
  return `${predicted} Trained again without: ${changeWords(found.measured, found.measured_percent, found.units, found.measured_se)}.`;
}

/** Words on the left, numbers on the right. @param {string[]} heads */
function whatIfHeads(heads) {
  return h("tr", {}, ...heads.map((words, i) => h("th", { scope: "col", class: i ? "number" : "" }, words)));
}

/** @param {{ask: import("./host.js").Ask, onStep?: (position: number) => void}} actions */
export function whatIfPanel({ ask, onStep = () => {} }) {
  const askStart = newest(ask);
  let now = { position: 0, selected: /** @type {any} */ (null), picks: /** @type {any[]} */ ([]) };
  /** @type {Map<string, {one: WhatIfOne, box: HTMLInputElement, isMine: boolean}>} isMine: ticked by the reader, so kept when another sequence is looked at */
  let boxes = new Map();
  let drawn = "";
  /** @type {WhatIfEdited[]} */
  let edits = [];

  // ---- leave out

  const list = h("div", { class: "what-if-list", role: "group", "aria-label": "Documents to leave out" });
  const byId = h("input", { type: "text", class: "what-if-id", "aria-label": "Add a document by its id", placeholder: "add by id" });
  const said = h("p", { class: "what-if-said", role: "status" });
  const table = h("div", { class: "what-if-batch" });
  const noRemoval = h("p", { class: "none", hidden: "" });
  const noRetraining = h("span", { class: "soft" });
  const seeds = h("input", { type: "number", min: "1", max: "20", value: "3", class: "what-if-seeds" });
  const predict = button("Predict", () => remove(false));
  const measure = button("Retrain and measure", () => remove(true));
  const work = waiting(ask, (isBusy) => [predict, measure].forEach((one) => one.setAttribute("aria-disabled", String(isBusy || (one === measure && noRetraining.textContent !== "")))));
  byId.addEventListener("keydown", async (event) => {
    if (event.key !== "Enter" || event.isComposing || byId.value.trim() === "") return;
    work.complain("");
    try {
      add(await ask("whatif.find", { position: now.position, train: byId.value.trim() }), true, true);
      byId.value = "";
    } catch (error) {
      work.complain(inWords(error));
    }
  });
  /** @param {WhatIfOne} one @param {boolean} isTicked @param {boolean} isMine */
  function add(one, isTicked, isMine) {
    const key = JSON.stringify(one.train);
    const known = boxes.get(key);
    if (known) {
      known.box.checked ||= isTicked;
      known.isMine ||= isMine;
      return;
    }
    const box = h("input", { type: "checkbox" });
    box.checked = isTicked;
    const entry = { one, box, isMine };
    box.addEventListener("change", () => (entry.isMine = true));
    boxes.set(key, entry);
    list.append(h("label", { class: "what-if-one" }, box, h("span", { class: "number" }, signed(one.value)), h("span", { class: "what-if-text", dir: "auto" }, h("b", {}, `${one.train} `), one.text)));
  }
  const ticked = () => [...boxes.values()].filter(({ box }) => box.checked).map(({ one }) => one.train);
  /** @param {boolean} isMeasured */
  async function remove(isMeasured) {
    const [place, trains] = [now.position, ticked()];
    if (!trains.length) return work.complain("No document is ticked; tick one or more.");
    const args = { position: place, trains, ...(isMeasured ? { seeds: Math.max(1, Math.round(Number(seeds.value) || 1)) } : {}) };
    const found = await work.run(isMeasured ? "Training again" : "Adding up", isMeasured ? "whatif.retrain" : "whatif.removal", args);
    if (!found || place !== now.position) return;
    said.textContent = removedWords(found);
    table.replaceChildren(batchTable(found));
  }
  /** @param {WhatIfRemoved} found */
  function batchTable({ batch, units, n_query }) {
    const isMeasured = batch.some((row) => row.measured !== undefined);
    const heads = ["query", `predicted, ${units}`, ...(isMeasured ? [`measured, ${units}`] : [])];
    const rows = batch.map((row) => {
      const go = button([...`${row.prompt}${row.completion}`].slice(0, 80).join("") || String(row.id), () => onStep(row.position), { class: "what-if-query", dir: "auto", title: "Go to this query" });
      return h("tr", {}, h("th", { scope: "row" }, go), h("td", { class: "number" }, changeWords(row.effect, row.percent)), ...(isMeasured ? [h("td", { class: "number" }, changeWords(row.measured, row.measured_percent, "", row.measured_se))] : []));
    });
    return h("table", {}, h("caption", {}, `The ${batch.length} of ${n_query} queries that change most`), h("thead", {}, whatIfHeads(heads)), h("tbody", {}, ...rows));
  }

  // ---- edit

  const text = h("textarea", { rows: "3", "aria-label": "The sentence, to be edited", dir: "auto" });
  const noEdit = h("p", { class: "none", hidden: "" });
  const score = button("Score the edit", () => edit());
  const back = button("As it was", () => (text.value = original()));
  const editWork = waiting(ask, (isBusy) => score.setAttribute("aria-disabled", String(isBusy)));
  const history = h("div", { class: "what-if-history", "aria-live": "polite" });
  const editBox = h("div", { class: "what-if-edit" }, text, h("div", { class: "what-if-row" }, score, back), editWork.root, history);
  /** Whose sentence is in the field. @type {Plain | undefined} */
  let written;
  const original = () => boxes.get(JSON.stringify(now.selected?.train))?.one.text ?? "";
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    edit();
  });
  async function edit() {
    if (!now.selected) return;
    const [position, train] = [now.position, now.selected.train];
    /** @type {WhatIfEdited | undefined} */
    const found = await editWork.run("Scoring the edit", "whatif.edit", { position, train, text: text.value });
    if (!found || position !== now.position || train !== now.selected?.train) return;
    edits = [found, ...edits].slice(0, 8);
    drawEdits();
  }
  function drawEdits() {
    const [first] = edits;
    if (!first) return history.replaceChildren();
    const line = (/** @type {string} */ words, /** @type {number} */ value, /** @type {number | null} */ change, /** @type {number | undefined} */ p) => h("tr", {},
      h("td", { dir: "auto", class: "what-if-text" }, words), h("td", { class: "number" }, signed(value)), h("td", { class: "number" }, change === null ? "" : signed(change)), h("td", { class: "number" }, p === undefined ? "" : signed(p)));
    const heads = ["sentence", first.units, "change", "log-probability, nat"];
    history.replaceChildren(
      h("table", {}, h("thead", {}, whatIfHeads(heads)),
        h("tbody", {}, line(`${first.before} (as it was)`, first.original, null, first.log_probability?.[0]), ...edits.map((one) => line(one.text, one.edited, one.difference, one.log_probability?.[1])))),
      ...(first.log_probability ? [h("p", { class: "soft" }, WHAT_IF_GRADIENT)] : []),
      ...(first.note ? [h("p", { class: "soft" }, first.note)] : []));
  }

  async function start() {
    const { position, selected, picks } = now;
    const key = JSON.stringify([position, selected?.train, picks]);
    if (key === drawn) return;
    drawn = key;
    try {
      const found = await askStart("whatif.start", { position });
      if (found === undefined) return;
      const known = new Map(found.candidates.map((/** @type {WhatIfOne} */ one) => [JSON.stringify(one.train), one]));
      const wanted = [selected?.train, ...picks].filter((train) => train !== undefined && train !== null);
      const first = await Promise.all(wanted.map((train) => known.get(JSON.stringify(train)) ?? ask("whatif.find", { position, train })));
      if (key !== drawn) return; // the reader went on
      const kept = new Set([...boxes].filter(([, { box, isMine }]) => isMine && box.checked).map(([train]) => train));
      boxes = new Map();
      list.replaceChildren();
      for (const one of first) add(one, true, kept.has(JSON.stringify(one.train)));
      for (const one of found.candidates) add(one, kept.has(JSON.stringify(one.train)), kept.has(JSON.stringify(one.train)));
      const { removal, retrain, edit: editing } = found.why_not;
      [noRemoval.textContent, noRetraining.textContent, noEdit.textContent] = [removal, retrain, editing || (selected ? "" : "Pick a sequence to edit it.")];
      noRemoval.hidden = removal === "";
      outBox.hidden = removal !== "";
      measure.setAttribute("aria-disabled", String(retrain !== "" || work.busy()));
      noEdit.hidden = noEdit.textContent === "";
      editBox.hidden = !noEdit.hidden;
      if (written !== selected?.train) text.value = original(); // what is being typed stays
      written = selected?.train;
    } catch (error) {
      if (key === drawn) drawn = ""; // to be asked again
      work.complain(inWords(error));
    }
  }
  const outBox = h("div", { class: "what-if-out" }, list, h("div", { class: "what-if-row" }, byId, predict, measure, h("label", {}, "trainings ", seeds), noRetraining), work.root, said, table);
  return {
    root: h("div", { class: "what-if" },
      h("section", { "aria-label": "Leave documents out" }, h("h4", {}, "What if these had been left out?"), noRemoval, outBox),
      h("section", { "aria-label": "Edit a sentence" }, h("h4", {}, "What if this had been written otherwise?"), noEdit, editBox)),
    /** @param {{position: number, selected?: any, picks?: any[]}} wanted picks: ids of sequences */
    update({ position, selected = null, picks = [] }) {
      if (position !== now.position || selected?.train !== now.selected?.train) {
        edits = [];
        drawEdits();
      }
      if (position !== now.position) {
        said.textContent = "";
        table.replaceChildren();
      }
      now = { position, selected, picks };
      return start();
    },
  };
}

/** @param {import("./host.js").Host} host @returns {import("./host.js").Built} */
function whatIfAlone({ model, ask, set }) {
  const panel = whatIfPanel({ ask, onStep: (position) => set({ position }) });
  const draw = () => panel.update({ position: model.get("position"), picks: model.get("picks"), selected: model.get("picks").length ? { train: model.get("picks")[0] } : null });
  return { children: [panel.root], listeners: { "change:position": draw, "change:picks": draw }, start: draw };
}

export default widget("what-if-alone", "What if", whatIfAlone);
