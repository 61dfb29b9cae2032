// @ts-check
// The ranked training sequences of a query: two lists of any length, filters, histogram, words, pins.
import { button, chips, h } from "./dom.js";
import { histogram } from "./histogram.js";
import { inWords, newest, widget } from "./host.js";
import { picksPanel } from "./picks.js";
import { queryCard, stepper } from "./stepper.js";
import { virtualList } from "./virtual_list.js";
import { factor, heat, percent, signed } from "./words.js";

/** @typedef {import("./dom.js").Plain} Plain */
/** @typedef {"positive" | "negative"} ListSign */
/** @typedef {{rank: number, train: Plain, effect: number | null, influence: number | null, share: number | null, text: string, meta: Record<string, Plain>}} ListItem */
/** @typedef {{total: number, of: number, share: number | null, most: number, units: string, predicts: boolean, items: ListItem[]}} ListWindow */
/** @typedef {{positive: ListWindow, negative: ListWindow}} ListPage */
/** @typedef {{query: Plain, train: Plain, note: string}} Pick */
/** @typedef {{text: string, facets: Record<string, Plain[]>, low: number | null, high: number | null}} ListFilter */

/** @type {ListSign[]} */
const LIST_SIGNS = ["positive", "negative"];
const LIST_HEADS = { positive: "Makes it more likely", negative: "Makes it less likely" };
const LIST_CONTRAST = { positive: "Speaks for the first", negative: "Speaks for the second" };
const LIST_BARE = { positive: "Highest scores", negative: "Lowest scores" };
const LEAST_EFFECT = 0.005; // nats: below, the probability stays what it is to three digits
const LIST_PATIENCE = 250; // ms after the last key of a search

/** What a row says, for those who hear it. @param {ListItem} item @param {ListWindow} about @param {boolean} isPinned */
export function rowWords(item, { predicts, units }, isPinned) {
  const amount = predicts ? `${signed(item.effect)} nat${factor(item.effect)}, ${percent(item.share)} of the total` : `${signed(item.effect)} ${units === "1" ? "" : units}`;
  return `${item.rank}. ${amount.trim()}.${isPinned ? " Pinned." : ""} ${item.text}`.slice(0, 300);
}

/** What a row shows of the probability: nothing where there is no prediction, or none worth a digit. @param {ListItem} item @param {ListWindow} about */
export function likelyWords({ effect }, { predicts }) {
  return predicts && effect !== null && Math.abs(effect) >= LEAST_EFFECT ? factor(effect).replace(", ", "") : "";
}

/** How many are listed, in words. @param {ListWindow} about @param {boolean} isFiltered */
export function countWords({ total, of, share, predicts }, isFiltered) {
  const many = (/** @type {number} */ n) => n.toLocaleString("en");
  const part = predicts && isFiltered ? `, ${percent(share)} of the total` : "";
  return isFiltered ? `${many(total)} of ${many(of)}${part}` : many(of);
}

/**
 * @param {{ask: import("./host.js").Ask, onPick: (item: ListItem, sign: ListSign) => void, onPin: (train: Plain, isPinned: boolean, query?: Plain) => void, onNote: (pick: Pick, note: string) => void, onFilter?: (filter: ListFilter) => void}} actions
 */
export function sequenceLists({ ask, onPick, onPin, onNote, onFilter = () => {} }) {
  /** @type {ListFilter} */
  let filter = { text: "", facets: {}, low: null, high: null };
  let place = { position: 0, layers: /** @type {string[] | null} */ (null), damping: /** @type {number | null} */ (null) };
  let pinned = new Set();
  let pinnedOf = /** @type {Plain} */ (null); // the query
  /** @type {import("./picks.js").PickedRow[]} */
  let pinnedRows = [];
  /** @type {any} */
  let selected = {};
  /** @type {Record<ListSign, ListWindow | null>} */
  const shown = { positive: null, negative: null };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let looking;
  let isContrast = false; // of two completions
  let isNew = true; // nobody has walked through these lists yet
  const isFiltered = () => filter.text !== "" || filter.low !== null || filter.high !== null || Object.keys(filter.facets).length > 0;
  const asked = () => ({ ...place, ...filter });

  // ---- the two lists

  const problem = h("div", { role: "alert", class: "problem", hidden: "" });
  /** @param {unknown} error */
  function complain(error) {
    problem.textContent = inWords(error);
    problem.hidden = false;
  }
  const columns = LIST_SIGNS.map((sign) => {
    const count = h("span", { class: "soft list-count", role: "status" });
    const head = h("span", {}, LIST_HEADS[sign]);
    const title = h("div", { class: "list-title" }, h("span", { class: `swatch ${sign}`, "aria-hidden": "true" }), head, count);
    const none = h("p", { class: "none", hidden: "" });
    const words = h("div", { class: "list-words soft" });
    /** @type {ReturnType<typeof virtualList<ListItem>>} */
    const list = virtualList({
      label: LIST_HEADS[sign],
      row: (item) => rowOf(item, sign),
      isSelected: (item) => selected.sign === sign && selected.train === item.train,
      onPick: (item) => onPick(item, sign),
      onKey(event, item) {
        if (event.key !== "p" || !item) return false;
        onPin(item.train, !pinned.has(item.train));
        return true;
      },
      async fetch(offset, n) {
        const answer = await ask("list.window", { sign, offset, count: n, ...asked() });
        if (answer) told(sign, answer);
        return answer;
      },
      onProblem: complain,
    });
    const askWords = newest(ask);
    list.root.addEventListener("scroll", () => {
      clearTimeout(looking);
      if (bars.isOpen()) looking = setTimeout(() => bars.mark(marks()), LIST_PATIENCE);
    }, { passive: true });
    return { sign, count, head, none, words, list, askWords, root: h("section", { class: "list-column" }, title, list.root, none, words) };
  });
  /** @param {ListItem} item @param {ListSign} sign */
  function rowOf(item, sign) {
    const about = /** @type {ListWindow} */ (shown[sign]);
    const bar = h("span", { class: `bar ${sign}`, "aria-hidden": "true" });
    bar.style.width = `${(100 * heat(item.effect, about.most)).toFixed(1)}%`;
    const isPinned = pinned.has(item.train);
    const pin = h("span", { class: "pin", "aria-hidden": "true", title: isPinned ? "Unpin" : "Pin" }, isPinned ? "●" : "○");
    pin.addEventListener("click", (event) => (event.stopPropagation(), onPin(item.train, !pinned.has(item.train))));
    const measure = h("div", { class: "measure" }, h("span", { class: "number" }, signed(item.effect)), h("span", { class: "share" }, about.predicts ? percent(item.share) : ""), h("span", { class: "track" }, bar), h("span", { class: "as-likely soft" }, likelyWords(item, about)));
    const text = h("div", { class: "snippet", dir: "auto" }, item.text || `sequence ${item.train}`);
    return {
      content: [h("span", { class: "rank" }, String(item.rank), pin), measure, h("div", { class: "said-by" }, text, chips({ id: item.train, ...item.meta }))],
      label: rowWords(item, about, isPinned),
      className: isPinned ? "list-row pinned" : "list-row",
    };
  }
  /** @param {ListSign} sign @param {ListWindow} answer */
  function told(sign, answer) {
    shown[sign] = answer;
    const column = columns[LIST_SIGNS.indexOf(sign)];
    column.head.textContent = (isContrast ? LIST_CONTRAST : answer.predicts ? LIST_HEADS : LIST_BARE)[sign];
    column.list.root.setAttribute("aria-label", column.head.textContent);
    column.count.textContent = countWords(answer, isFiltered());
    column.list.root.hidden = answer.total === 0;
    column.none.hidden = answer.total > 0;
    column.none.textContent = answer.of === 0 ? `No training sequence: ${column.head.textContent.toLowerCase()}.` : "No sequence passes the filter.";
  }
  /** @param {ListPage | null} first */
  function refill(first) {
    isNew = true;
    problem.hidden = true;
    for (const { sign, list, words } of columns) {
      if (first) told(sign, first[sign]);
      words.replaceChildren();
      list.reset(first ? first[sign] : null);
    }
    clearTimeout(patience);
    patience = setTimeout(readWords, LIST_PATIENCE);
    if (bars.isOpen()) bars.load();
    clearTimeout(looking);
    looking = setTimeout(() => bars.mark(marks()), LIST_PATIENCE);
  }
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let patience;
  async function readWords() {
    for (const { sign, words, askWords } of columns) {
      try {
        const answer = await askWords("list.words", { sign, ...asked() });
        if (answer === undefined || !answer.words.length) continue;
        const said = answer.words.map((/** @type {any} */ one) => h("span", { class: "word", title: `z = ${one.z.toFixed(1)}; ${one.count} times in these ${answer.k}, ${one.count_rest} in the rest` }, one.word));
        words.replaceChildren(`Words of the first ${answer.k}: `, ...said);
      } catch (error) {
        complain(error);
      }
    }
  }

  // ---- filters

  const search = h("input", { type: "search", class: "search", "aria-label": "Search in the training sequences", placeholder: "search in the training sequences" });
  const facetBox = h("span", { class: "facets" });
  const clear = button("Clear filters", () => setFilter({ text: "", facets: {}, low: null, high: null }), { hidden: "" });
  const bars = histogram({ ask: (kind, args) => ask(kind, { ...asked(), ...args }), onRange: ([low, high]) => setFilter({ low, high }) });
  let typing = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => setFilter({ text: search.value.trim() }), LIST_PATIENCE);
  });
  /** @param {Partial<ListFilter>} change @param {boolean} [isTold] */
  function setFilter(change, isTold = true) {
    const next = { ...filter, ...change };
    if (JSON.stringify(next) === JSON.stringify(filter)) return;
    filter = next;
    if (search.value.trim() !== filter.text) search.value = filter.text;
    for (const box of facetBox.querySelectorAll("input")) box.checked = (filter.facets[box.name] ?? []).map(String).includes(box.value);
    if (filter.low === null && filter.high === null) bars.clear();
    clear.hidden = !isFiltered();
    if (isTold) onFilter(filter);
    refill(null);
  }
  async function readFacets() {
    try {
      /** @type {{name: string, values: {value: Plain, count: number}[]}[]} */
      const facets = await ask("list.facets");
      facetBox.replaceChildren(...facets.map(({ name, values }) => {
        const boxes = values.map(({ value, count }) => {
          const box = h("input", { type: "checkbox", name, value: String(value) });
          box.addEventListener("change", () => {
            const chosen = values.filter((_, i) => /** @type {HTMLInputElement} */ (boxes[i].firstChild).checked).map((one) => one.value);
            const { [name]: _, ...others } = filter.facets;
            setFilter({ facets: chosen.length ? { ...others, [name]: chosen } : others });
          });
          return h("label", { class: "facet-value" }, box, ` ${String(value ?? "") || "(none)"} `, h("span", { class: "soft" }, count.toLocaleString("en")));
        });
        const summary = h("summary", {}, name);
        const facet = h("details", { class: "facet" }, summary, h("div", { class: "facet-values" }, ...boxes));
        // It lies over the lists: put away when the reader goes on.
        facet.addEventListener("focusout", ({ relatedTarget: to }) => to instanceof Node && !facet.contains(to) && (facet.open = false));
        facet.addEventListener("keydown", (event) => {
          if (event.key !== "Escape" || !facet.open) return;
          event.preventDefault();
          event.stopPropagation();
          facet.open = false;
          summary.focus();
        });
        return facet;
      }));
    } catch (error) {
      complain(error);
    }
  }

  const pins = picksPanel({ ask, onNote, onUnpin: (pick) => onPin(pick.train, false, pick.query), onRows: (rows) => (pinnedRows = rows, bars.mark(marks())) });
  const pin = button("Pin", () => selected.train !== undefined && onPin(selected.train, !pinned.has(selected.train)), { class: "pin-chosen", "aria-pressed": "false" });
  return {
    root: h("section", { class: "sequence-lists", "aria-label": "Ranked training sequences" },
      h("div", { class: "list-bar" }, search, facetBox, clear), bars.root, problem,
      h("div", { class: "list-columns" }, ...columns.map((column) => column.root)), pins.root),
    pin,
    focus: () => columns[shown.positive?.total ? 0 : 1].list.focus(),
    /** What is filtered, said from elsewhere. @param {Partial<ListFilter>} wanted */
    filter: (wanted) => setFilter(wanted, false),
    /** @param {{position: number, layers?: string[] | null, damping?: number | null, first?: ListPage | null, contrast?: boolean}} now contrast: the query holds one completion against another */
    update({ position, layers = null, damping = null, first = null, contrast = false }) {
      isContrast = contrast;
      place = { position, layers: layers?.length ? layers : null, damping };
      refill(first && !isFiltered() ? first : null);
    },
    /** @param {any} wanted `{train, sign, rank}` or {} */
    choose(wanted) {
      selected = wanted ?? {};
      for (const { sign, list } of columns) {
        // Whoever walks through a list is not called back to what was picked there.
        const isWalked = /** @type {Document} */ (list.root.getRootNode()).activeElement === list.root;
        if (selected.sign === sign && !isFiltered() && (isNew || !isWalked)) list.point(selected.rank - 1);
        list.reselect();
      }
      isNew = false;
      pin.hidden = selected.train === undefined;
      markPin();
      bars.mark(marks());
    },
    /** @param {Pick[]} here pinned of the query shown @param {Pick[]} all */
    pins(here, all) {
      const before = [...pinned].join();
      pinned = new Set(here.map((pick) => pick.train));
      if ([...pinned].join() !== before) columns.forEach(({ list }) => list.redraw());
      pinnedOf = here[0]?.query ?? null;
      pins.update(all);
      if (all.length === 0) pinnedRows = [];
      bars.mark(marks());
      markPin();
    },
    start: readFacets,
    cleanUp() {
      clearTimeout(patience);
      clearTimeout(typing);
      clearTimeout(looking);
    },
  };
  function markPin() {
    const isPinned = pinned.has(selected.train);
    pin.setAttribute("aria-pressed", String(isPinned));
    pin.textContent = isPinned ? "Pinned" : "Pin";
  }
  /** What the histogram marks. */
  function marks() {
    const here = columns.flatMap(({ list }) => list.inSight());
    const item = here.find((one) => one.train === selected.train) ?? columns[LIST_SIGNS.indexOf(selected.sign)]?.list.item(selected.rank - 1);
    /** @type {{kind: "chosen" | "pinned" | "shown", train: Plain, effect: number | null}[]} */
    const found = [
      ...(item?.train === selected.train && item ? [{ kind: /** @type {const} */ ("chosen"), ...item }] : []),
      ...pinnedRows.filter((row) => pinned.has(row.train) && row.query === pinnedOf).map((row) => ({ kind: /** @type {const} */ ("pinned"), ...row })),
      ...here.map((one) => ({ kind: /** @type {const} */ ("shown"), ...one })),
    ];
    return found.flatMap(({ kind, train, effect }) => (effect === null ? [] : [{ kind, label: `sequence ${train}`, value: effect }]));
  }
}

/** @param {import("./host.js").Host} host @returns {import("./host.js").Built} */
function listsAlone({ model, ask, set }) {
  const steps = stepper({ onStep: (position) => set({ position }) });
  const card = queryCard();
  const here = () => model.get("_page").query.id;
  /** @param {Pick} pick @param {Plain} train @param {Plain} query */
  const isIt = (pick, train, query) => pick.query === query && pick.train === train;
  const lists = sequenceLists({
    ask,
    onPick: (item, sign) => set({ selected: { query: here(), train: item.train, rank: item.rank, sign } }),
    onPin: (train, isPinned, query = here()) => set({ picks: [...model.get("picks").filter((/** @type {Pick} */ pick) => !isIt(pick, train, query)), ...(isPinned ? [{ query, train, note: "" }] : [])] }),
    onNote: (pick, note) => set({ picks: model.get("picks").map((/** @type {Pick} */ one) => (one.query === pick.query && one.train === pick.train ? { ...one, note } : one)) }),
    onFilter: ({ text, facets }) => set({ text, facets }),
  });
  const drawPins = () => lists.pins(model.get("picks").filter((/** @type {Pick} */ pick) => pick.query === here()), model.get("picks"));
  const drawFilter = () => lists.filter({ text: model.get("text"), facets: model.get("facets") });
  function draw() {
    const page = model.get("_page");
    card.update(page.query);
    steps.update(page.position, model.get("_count"));
    lists.update({ position: page.position, first: page });
    lists.choose(model.get("selected"));
    drawPins();
  }
  return {
    children: [h("div", { class: "bar-top" }, steps.root, lists.pin), card.root, lists.root],
    listeners: { "change:_page": draw, "change:picks": drawPins, "change:text": drawFilter, "change:facets": drawFilter, "change:selected": () => lists.choose(model.get("selected")) },
    start: () => (draw(), drawFilter(), void lists.start()),
    cleanUp: lists.cleanUp,
  };
}

export default widget("sequence-list", "Ranked training sequences", listsAlone);
