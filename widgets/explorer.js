// @ts-check
// The Explorer: the parts put together. Python holds the place (`position`, `selected`) and sends the page of the query
// shown (`_page`); everything else is asked for when it is looked at.
import { button, chips, h, tabs } from "./dom.js";
import { inWords, newest, widget } from "./host.js";
import { digits, factor, signed } from "./words.js";
import { savePicture } from "./picture.js";
import { queryCard, querySearch, stepper } from "./stepper.js";
import { sequenceLists } from "./sequence_list.js";
import { tokenView } from "./token_view.js";
import { heatMap } from "./heat_map.js";
import { pairMap } from "./pair_map.js";
import { layerProfile } from "./layer_profile.js";
import { curvaturePanel } from "./curvature.js";
import { tailPlot } from "./tail_plot.js";
import { askPanel } from "./ask.js";
import { whatIfPanel } from "./what_if.js";
import { comparePanel } from "./compare.js";

/** @typedef {import("./host.js").Host} Host */
/** @typedef {{query: any, train: any, rank: number, sign: "positive" | "negative"}} Chosen */
/** What a tab shows; `show` is called when it is looked at and whenever the place changes while it is. @typedef {{name: string, title: string, root: HTMLElement, show: () => void}} Panel */

const LIKELY_WORDS = { positive: "make it more likely", negative: "make it less likely" };
const CONTRAST_WORDS = { positive: "speak for the first completion", negative: "speak for the second completion" };
const EXPLORER_KEYS = "Keys: ← → step through the queries, ↓ into the list, ↑ ↓ and Enter pick a sequence, Esc goes back, Tab moves on.";
const PATIENCE = 60; // ms that a reader must stay on a sequence before its tokens are read

/** @param {Host} host */
function explorer({ model, ask, set, complain, root }) {
  const summary = model.get("_summary");
  /** @param {string} what */
  const can = (what) => summary.can.includes(what);
  const page = () => model.get("_page");
  /** @returns {Chosen | null} */
  const chosen = () => (model.get("selected")?.sign ? model.get("selected") : null);
  const isFresh = () => page().position === model.get("position");
  /** By what sequences are ranked, beside the query. */
  const ranking = () => ({ position: page().position, layers: model.get("layers"), damping: model.get("damping") });

  // ---- the query and its lists

  const steps = stepper({ onStep: step });
  const search = querySearch({ ask, onStep: step });
  const card = queryCard();
  const lists = sequenceLists({
    ask,
    onPick: (item, sign) => isFresh() && set({ selected: { query: page().query.id, train: item.train, rank: item.rank, sign } }),
    onPin: (train, isPinned, query = page().query.id) => set({ picks: [...otherPicks(train, query), ...(isPinned ? [{ query, train, note: "" }] : [])] }),
    onNote: (one, note) => set({ picks: model.get("picks").map((/** @type {any} */ pick) => (pick.query === one.query && pick.train === one.train ? { ...pick, note } : pick)) }),
  });
  /** @param {any} train @param {any} query */
  const otherPicks = (train, query) => model.get("picks").filter((/** @type {any} */ pick) => !(pick.query === query && pick.train === train));

  const rankedBy = h("span", {});
  const asFitted = h("div", { class: "ranked-by", role: "status", hidden: "" }, rankedBy, button("Rank as fitted", () => set({ layers: [], damping: null })));
  /** The reader must see that the lists are not of the fit. */
  function drawRanking() {
    const { layers, damping } = ranking();
    const words = [
      ...(layers.length ? [`by ${layers.length} layer${layers.length > 1 ? "s" : ""} alone`] : []),
      ...(damping === null ? [] : [`under damping ${digits(damping)} × mean eigenvalue`]),
    ];
    asFitted.hidden = words.length === 0;
    rankedBy.textContent = `Ranked ${words.join(", ")}. Tokens, What if and Compare stay those of the fit. `;
  }

  /** @param {number} to */
  function step(to) {
    const position = Math.max(0, Math.min(model.get("_summary").n_query - 1, to));
    if (position !== model.get("position")) set({ position });
  }

  // ---- the chosen sequence

  const headline = h("div", { class: "headline" });
  const tokens = tokenView({ onView: (view) => readTokens(view), onToken: () => {} });
  const heat = heatMap();
  const heatBox = h("details", { class: "heat-box" }, h("summary", {}, "Layer by layer"), heat.root);
  const askTokens = newest(ask);
  const pairs = pairMap({ onLayer: (layer) => readPairs(layer) });
  const askPairs = newest(ask);
  const profile = layerProfile({ onLayers: (names) => can("layers") && set({ layers: names }) });
  const askProfile = newest(ask);
  const profileNote = h("p", { class: "soft" });
  const tail = tailPlot();
  const askTail = newest(ask);
  let view = "update";
  /** @type {any} the tokens whose layers are drawn when the reader opens them */
  let heatShown = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let patience;

  /** The answer to a question about the pair shown; what fails is said and leaves the rest alone. @param {import("./host.js").Ask} asks @param {string} kind @param {Record<string, unknown>} args @param {(answer: any) => void} draw */
  async function about(asks, kind, args, draw) {
    try {
      const answer = await asks(kind, { position: model.get("position"), ...args });
      if (answer !== undefined) draw(answer);
    } catch (error) {
      complain(inWords(error));
    }
  }
  /** @param {string} [wanted] */
  function readTokens(wanted) {
    view = wanted ?? view;
    const pair = chosen();
    if (!pair || !can("tokens")) {
      heatBox.hidden = true;
      return tokens.update({ note: pair ? `${summary.method} scores whole sequences: there are no tokens to show.` : "No sequence to look into." });
    }
    clearTimeout(patience);
    patience = setTimeout(() => about(askTokens, "tokens.view", { train: pair.train, view }, (answer) => {
      tokens.update(answer);
      heatBox.hidden = !answer.heat;
      heatShown = answer;
      drawHeat();
    }), PATIENCE);
  }
  function drawHeat() {
    if (heatBox.open && heatShown?.heat) heat.update({ ...heatShown.heat, text: heatShown.text, units: heatShown.units });
  }
  heatBox.addEventListener("toggle", drawHeat);
  /** @param {string | null} [layer] */
  function readPairs(layer = null) {
    const pair = chosen();
    if (pair) about(askPairs, "tokens.pairs", { train: pair.train, layer }, (answer) => pairs.update(answer));
  }
  function readProfile() {
    const pair = chosen();
    const chosenLayers = model.get("layers");
    about(askProfile, "layers.profile", { train: pair?.train ?? null }, (answer) => {
      const rows = answer.pair ?? answer.positive ?? [];
      const label = answer.pair ? `of sequence ${pair?.train}` : "of all sequences that make it more likely";
      profile.update({ layers: rows, chosen: chosenLayers, units: answer.units, label });
      profileNote.textContent = answer.can_rank ? "" : "These scores were saved with layers summed: choosing layers changes nothing here.";
    });
  }
  /** For panels that say themselves what failed: once is enough. @type {import("./host.js").Ask} */
  const askPanels = async (kind, args, onProgress) => {
    try {
      return await ask(kind, args, onProgress);
    } catch (error) {
      complain("");
      throw error;
    }
  };
  const curvature = curvaturePanel({ ask: askPanels, onDamping: (damping) => set({ damping }) });
  const asks = askPanel({ ask: askPanels, onQuery: step });
  const whatIf = whatIfPanel({ ask: askPanels, onStep: step });
  const compare = comparePanel({ ask: askPanels, onPick: (train) => ask("list.find", { position: model.get("position"), train }).then((found) => found && set({ selected: found }), (error) => complain(inWords(error))) });

  /** @type {Panel[]} */
  const panels = [
    { name: "tokens", title: "Tokens", root: h("div", {}, tokens.root, heatBox), show: readTokens },
    ...(can("pairs") ? [{ name: "pairs", title: "Token × token", root: pairs.root, show: () => readPairs() }] : []),
    { name: "layers", title: "Layers", root: h("div", {}, profile.root, profileNote), show: readProfile },
    ...(can("curvature") ? [{ name: "curvature", title: "Curvature", root: curvature.root, show: () => curvature.update({ position: model.get("position"), damping: model.get("damping"), canRescore: can("live") }) }] : []),
    { name: "tail", title: "Tail", root: tail.root, show: () => about(askTail, "tail.query", {}, (answer) => tail.update(answer)) },
    ...(can("live") ? [{ name: "ask", title: "Ask", root: asks.root, show: () => void asks.update({ query: model.get("position") < summary.n_query ? page().query : null }) }] : []),
    ...(can("nats") ? [{ name: "whatif", title: "What if", root: whatIf.root, show: () => void whatIf.update({ position: model.get("position"), selected: chosen(), picks: model.get("picks").map((/** @type {any} */ pick) => pick.train) }) }] : []),
    ...(can("compare") ? [{ name: "compare", title: "Compare", root: compare.root, show: () => compare.update({ position: model.get("position") }) }] : []),
  ].filter(({ name }) => !summary.offline || name === "tokens");
  const shelf = tabs("Look closer", panels, (name) => panels.find((panel) => panel.name === name)?.show());
  const refresh = () => panels.find((panel) => panel.name === shelf.shown())?.show();
  const picture = savePicture(() => shelf.root.querySelector(`.panel-${shelf.shown()}`));

  // ---- drawing

  function drawPlace() {
    steps.update(model.get("position"), model.get("_summary").n_query);
    root.setAttribute("aria-busy", String(!isFresh()));
  }
  function drawPage() {
    card.update(page().query);
    lists.update({ ...ranking(), first: page(), contrast: page().contrast });
    drawRanking();
    drawPicks();
    drawPlace();
    drawChoice();
    complain(model.get("error") ?? ""); // what failed before was of another page
  }
  function drawPicks() {
    const picks = model.get("picks");
    lists.pins(picks.filter((/** @type {any} */ pick) => pick.query === page().query.id), picks);
    if (shelf.shown() === "whatif") refresh();
  }
  function drawChoice() {
    const pair = chosen();
    lists.choose(pair ?? {});
    drawHeadline(pair);
    if (isFresh()) refresh();
  }
  /** @param {Chosen | null} pair */
  async function drawHeadline(pair) {
    headline.replaceChildren();
    if (!pair) return;
    const item = model.get("_item");
    if (!item || item.train !== pair.train) return;
    const isNat = can("nats");
    headline.append(
      h("b", {}, `Sequence ${pair.train}`), ` · rank ${pair.rank} of those that ${(page().contrast ? CONTRAST_WORDS : LIKELY_WORDS)[pair.sign]} · `,
      ...(isNat ? [`one more copy is predicted, to first order, to change ${page().contrast ? "the first against the second" : "the completion"} by `, h("b", { class: "number" }, `${signed(item.effect)} nat`), factor(item.effect)] : [h("b", { class: "number" }, signed(item.effect)), ` ${summary.units}`]),
      chips(item.meta));
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return false;
    const target = /** @type {HTMLElement} */ (event.target);
    const isRoot = target === root;
    if (event.key === "Escape" && !isRoot) return root.focus(), true;
    if (!isRoot && !target.closest(".virtual-list, .query-text")) return false;
    const now = model.get("position");
    /** @type {Record<string, number>} */
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, ...(isRoot ? { Home: 0, End: model.get("_summary").n_query - 1 } : {}) };
    if (event.key in to) return step(to[event.key]), true;
    if (isRoot && event.key === "ArrowDown") return lists.focus(), true;
    return false;
  }

  const about_line = [summary.method, `${summary.n_train.toLocaleString("en")} training sequences`, `in ${summary.units}`].filter(Boolean).join(" · ");
  return {
    children: [
      h("div", { class: "bar-top" }, steps.root, search.root, h("span", { class: "soft about" }, about_line)),
      card.root,
      asFitted,
      lists.root,
      h("section", { class: "detail", "aria-label": "Chosen sequence" }, h("div", { class: "detail-head" }, headline, lists.pin), h("div", { class: "shelf" }, shelf.root, picture)),
      h("p", { class: "soft keys" }, EXPLORER_KEYS),
    ],
    listeners: {
      "change:position": drawPlace, "change:_page": drawPage, "change:selected": drawChoice, "change:_item": drawChoice,
      "change:picks": drawPicks, "change:_summary": drawPlace,
    },
    onKey,
    start() {
      const wanted = model.get("tab");
      drawPage();
      shelf.show(panels.some(({ name }) => name === wanted) ? wanted : "tokens");
      void lists.start();
    },
    cleanUp() {
      clearTimeout(patience);
      lists.cleanUp();
      search.cleanUp();
      curvature.close();
    },
  };
}

export const explorerWidget = widget("explorer", "Influence explorer", explorer);

export default explorerWidget;
