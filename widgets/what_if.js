// @ts-check
// What if: documents were left out, or a sentence had been written otherwise. inflab/widgets/what_if.py answers.
import { button, h } from "./dom.js";
import { inWords, newest, widget } from "./host.js";
import { waiting } from "./waiting.js";
import { digits, signed } from "./words.js";

/** @typedef {import("./dom.js").Plain} Plain */
/** @typedef {{train: Plain, value: number | null, text: string}} WhatIfOne */
/** @typedef {{effect: number | null, percent?: number | null, measured?: number | null, measured_se?: number | null, measured_percent?: number | null}} WhatIfNumbers */
/** @typedef {WhatIfNumbers & {trains: Plain[], units: string, n_query: number, batch: (WhatIfNumbers & {position: number, id: Plain, prompt: string, completion: string})[]}} WhatIfRemoved */
/** @typedef {{train: Plain, before: string, text: string, original: number, edited: number, difference: number, units: string, is_effect: boolean, note: string, log_probability: number[] | null}} WhatIfEdited */

/** "−3.2 nat (−96 %)". @param {number | null | undefined} nats @param {number | null | undefined} percent */
export function changeWords(nats, percent) {
  if (nats === null || nats === undefined) return "–";
  const share = percent === null || percent === undefined ? "" : ` (${percent < 0 ? "−" : "+"}${digits(Math.abs(percent))} %)`;
  return `${signed(nats)}${share}`;
}

/** What was found when documents were left out, in a sentence. @param {WhatIfRemoved} found */
export function removedWords(found) {
  const many = found.trains.length === 1 ? "this document" : `these ${found.trains.length} documents together`;
  const less = (found.effect ?? 0) < 0 ? "less" : "more";
  const predicted = `Leaving out ${many} is predicted to change this query by ${changeWords(found.effect, found.percent)} ${found.units}: ${less} likely.`;
  if (found.measured === undefined) return predicted;
  const spread = found.measured_se === null || found.measured_se === undefined ? "" : ` ± ${digits(Math.abs(found.measured_se))}`;
  return `${predicted} Trained again without: ${changeWords(found.measured, found.measured_percent)}${spread} ${found.units}.`;
}

/** @param {{ask: import("./host.js").Ask, onStep?: (position: number) => void}} actions */
export function whatIfPanel({ ask, onStep = () => {} }) {
  const askStart = newest(ask);
  let now = { position: 0, selected: /** @type {any} */ (null), picks: /** @type {any[]} */ ([]) };
  /** @type {Map<string, {one: WhatIfOne, box: HTMLInputElement}>} */
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
    if (event.key !== "Enter" || byId.value.trim() === "") return;
    work.complain("");
    try {
      add(await ask("whatif.find", { position: now.position, train: byId.value.trim() }), true);
      byId.value = "";
    } catch (error) {
      work.complain(inWords(error));
    }
  });
  /** @param {WhatIfOne} one @param {boolean} isTicked */
  function add(one, isTicked) {
    const key = JSON.stringify(one.train);
    const known = boxes.get(key);
    if (known) return void (known.box.checked ||= isTicked);
    const box = h("input", { type: "checkbox" });
    box.checked = isTicked;
    boxes.set(key, { one, box });
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
      const go = button(`${row.prompt}${row.completion}`.slice(0, 80) || String(row.id), () => onStep(row.position), { class: "what-if-query", dir: "auto", title: "Go to this query" });
      const spread = row.measured_se === null || row.measured_se === undefined ? "" : ` ± ${digits(Math.abs(row.measured_se))}`;
      return h("tr", {}, h("th", { scope: "row" }, go), h("td", { class: "number" }, changeWords(row.effect, row.percent)), ...(isMeasured ? [h("td", { class: "number" }, `${changeWords(row.measured, row.measured_percent)}${spread}`)] : []));
    });
    return h("table", {}, h("caption", {}, `The ${batch.length} of ${n_query} queries that change most`), h("thead", {}, h("tr", {}, ...heads.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, ...rows));
  }

  // ---- edit

  const text = h("textarea", { rows: "3", "aria-label": "The sentence, to be edited", dir: "auto" });
  const noEdit = h("p", { class: "none", hidden: "" });
  const score = button("Score the edit", () => edit());
  const back = button("As it was", () => (text.value = original()));
  const editWork = waiting(ask, (isBusy) => score.setAttribute("aria-disabled", String(isBusy)));
  const history = h("div", { class: "what-if-history", "aria-live": "polite" });
  const editBox = h("div", { class: "what-if-edit" }, text, h("div", { class: "what-if-row" }, score, back), editWork.root, history);
  const original = () => boxes.get(JSON.stringify(now.selected?.train))?.one.text ?? "";
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    edit();
  });
  async function edit() {
    if (!now.selected) return;
    const place = now.position;
    /** @type {WhatIfEdited | undefined} */
    const found = await editWork.run("Scoring the edit", "whatif.edit", { position: place, train: now.selected.train, text: text.value });
    if (!found || place !== now.position) return;
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
      h("table", {}, h("thead", {}, h("tr", {}, ...heads.map((words) => h("th", { scope: "col" }, words)))),
        h("tbody", {}, line(`${first.before} (as it was)`, first.original, null, first.log_probability?.[0]), ...edits.map((one) => line(one.text, one.edited, one.difference, one.log_probability?.[1])))),
      ...(first.note ? [h("p", { class: "soft" }, first.note)] : []));
  }

  async function start() {
    const key = JSON.stringify([now.position, now.selected?.train, now.picks]);
    if (key === drawn) return;
    drawn = key;
    try {
      const found = await askStart("whatif.start", { position: now.position });
      if (found === undefined) return;
      const kept = new Set(ticked().map((train) => JSON.stringify(train)));
      boxes = new Map();
      list.replaceChildren();
      const wanted = [now.selected?.train, ...now.picks].filter((train) => train !== undefined && train !== null);
      const known = new Map(found.candidates.map((/** @type {WhatIfOne} */ one) => [JSON.stringify(one.train), one]));
      for (const train of wanted) add(known.get(JSON.stringify(train)) ?? (await ask("whatif.find", { position: now.position, train })), true);
      for (const one of found.candidates) add(one, kept.has(JSON.stringify(one.train)));
      const { removal, retrain, edit: editing } = found.why_not;
      [noRemoval.textContent, noRetraining.textContent, noEdit.textContent] = [removal, retrain, editing || (now.selected ? "" : "Pick a sequence to edit it.")];
      noRemoval.hidden = removal === "";
      outBox.hidden = removal !== "";
      measure.setAttribute("aria-disabled", String(retrain !== ""));
      noEdit.hidden = noEdit.textContent === "";
      editBox.hidden = !noEdit.hidden;
      text.value = original();
    } catch (error) {
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
