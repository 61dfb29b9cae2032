// @ts-check
// The Explorer without a kernel: a model that answers from arrays packed into the page (inflab/widgets/export.py).
import { h } from "./dom.js";
import { inWords } from "./host.js";
import { explorerWidget } from "./explorer.js";

/** @typedef {"positive" | "negative"} PackedSign */
/** @typedef {{summary: any, queries: any[], counts: {positive: number[], negative: number[]}[], trains: {id: any, meta: Record<string, any>, text?: string}[], vocabulary: string[], sections: Record<string, [number, number, string]>, levels: number, bins: any[]}} PackedHeader */

const PACKED_TYPES = { uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array, int8: Int8Array };
/** @type {PackedSign[]} */
const PACKED_SIGNS = ["positive", "negative"];

/** Text without case and accents, as the Python side searches. @param {string} text */
export function folded(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/\s+/g, " ").trim();
}

/** @param {string} text words and "phrases", all of which must occur @returns {string[]} */
export function searchTerms(text) {
  return [...text.matchAll(/"([^"]+)"|([^\s"]+)/g)].map((found) => folded(found[1] ?? found[2])).filter(Boolean);
}

/**
 * Read what `pack` wrote.
 * @param {ArrayBuffer} bytes header length, header, sections
 */
export function unpacked(bytes) {
  const length = new DataView(bytes).getUint32(0, true);
  /** @type {PackedHeader} */
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  /** @param {string} name @returns {any} */
  const section = (name) => {
    const [start, count, type] = header.sections[name];
    return new PACKED_TYPES[/** @type {keyof typeof PACKED_TYPES} */ (type)](bytes, 4 + length + start, count);
  };
  const [train, effect, share, scale, lengths, piece, heat] = ["train", "effect", "share", "scale", "length", "piece", "heat"].map(section);
  const pieceStart = startsOf(lengths);
  const heatStart = startsOf(Array.from(train, (one) => lengths[one]));
  let pair = 0;
  const pairStart = header.counts.map((own) => {
    const mine = { positive: pair, negative: pair + own.positive[0] };
    pair = mine.negative + own.negative[0];
    return mine;
  });
  /** @param {number} place @returns {string[]} */
  const piecesOf = (place) => Array.from(piece.subarray(pieceStart[place], pieceStart[place] + lengths[place]), (one) => header.vocabulary[one]);
  /** @param {number} place @returns {string} */
  const textOf = (place) => header.trains[place].text ?? piecesOf(place).join("");
  return {
    header,
    /** @param {number} position @param {PackedSign} sign */
    list(position, sign) {
      const [start, count] = [pairStart[position][sign], header.counts[position][sign][0]];
      return Array.from({ length: count }, (_, i) => {
        const { id, meta } = header.trains[train[start + i]];
        return { rank: i + 1, train: id, effect: number(effect[start + i]), share: number(share[start + i]), text: textOf(train[start + i]), meta, pair: start + i };
      });
    },
    /** @param {number} one */
    tokens(one) {
      const place = train[one];
      const codes = heat.subarray(heatStart[one], heatStart[one] + lengths[place]);
      return { text: piecesOf(place), effect: Array.from(codes, (code) => (code * scale[one]) / header.levels) };
    },
  };
}

/** @param {ArrayLike<number>} lengths */
function startsOf(lengths) {
  const starts = new Uint32Array(lengths.length + 1);
  for (let i = 0; i < lengths.length; i++) starts[i + 1] = starts[i] + lengths[i];
  return starts;
}

/** @param {number} value */
function number(value) {
  return Number.isFinite(value) ? Number(value.toPrecision(6)) : null;
}

/**
 * A model as the parts know it.
 * @param {ReturnType<typeof unpacked>} packed
 */
export function offlineModel(packed) {
  const { header } = packed;
  const { summary } = header;
  /** @type {Map<number, any>} */
  const places = new Map();
  /** @type {Record<string, ((...values: any[]) => void)[]>} */
  const listeners = {};
  /** @param {string} name @param {...any} values */
  const emit = (name, ...values) => [...(listeners[name] ?? [])].forEach((call) => call(...values));
  /** @param {any} a @param {any} b */
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  /** @type {Record<string, any>} */
  const state = { position: 0, selected: {}, picks: [], layers: [], damping: null, tab: "tokens", error: "", _summary: summary, _page: {}, _item: {} };

  /** @param {any} args */
  function listWindow({ position, sign, offset = 0, count = 60, text = "", low = null, high = null }) {
    const whole = packed.list(position, sign);
    const wanted = searchTerms(text);
    const kept = whole.filter((item) => (low === null || (item.effect ?? 0) >= low) && (high === null || (item.effect ?? 0) < high)
      && (wanted.length === 0 || wanted.every((term) => folded(item.text).includes(term) || folded(String(item.train)) === term)));
    const ends = PACKED_SIGNS.map((one) => Math.abs(packed.list(position, one)[0]?.effect ?? 0));
    return {
      query: header.queries[position].id, sign, offset, total: kept.length, of: whole.length,
      share: kept.reduce((sum, item) => sum + (item.share ?? 0), 0), most: Math.max(...ends), units: summary.units, predicts: summary.can.includes("nats"),
      items: kept.slice(offset, offset + count).map(({ pair: _, ...item }) => item),
    };
  }
  /** @param {number} position */
  const pageOf = (position) => ({
    position, query: header.queries[position],
    positive: listWindow({ position, sign: "positive" }), negative: listWindow({ position, sign: "negative" }),
  });
  /** @param {number} position @param {any} train */
  const find = (position, train) => PACKED_SIGNS.flatMap((sign) => packed.list(position, sign).map((item) => ({ ...item, sign }))).find((item) => same(item.train, train));

  /** @type {Record<string, (args: any) => any>} */
  const answers = {
    "list.window": listWindow,
    "list.facets": () => [],
    "list.histogram": ({ position }) => header.bins[position],
    "list.words": () => ({ words: [], k: 0, documents: 0 }),
    "list.picks": ({ picks }) => picks.map((/** @type {any} */ pick) => {
      const position = header.queries.findIndex((query) => same(query.id, pick.query));
      const { pair: _, ...item } = find(position, pick.train) ?? { pair: 0 };
      return { ...item, query: pick.query, position, note: pick.note };
    }),
    "list.find": ({ position, train }) => {
      const item = find(position, train);
      return item ? { query: header.queries[position].id, train, rank: item.rank, sign: item.sign } : null;
    },
    "query.search": ({ text }) => {
      const wanted = searchTerms(text);
      const said = header.queries.map(({ prompt, completion, meta }) => ({ label: `${prompt}${completion}`, all: folded([prompt, completion, ...Object.values(meta ?? {})].join(" ")) }));
      const positions = said.flatMap(({ all }, i) => (wanted.length && wanted.every((term) => all.includes(term)) ? [i] : []));
      return { matches: positions.slice(0, 100).map((position) => ({ position, label: said[position].label.slice(0, 60) })), positions, of: said.length };
    },
    "tokens.view": ({ position, train }) => {
      const item = find(position, train);
      if (!item) throw new Error("this page holds the tokens of the first sequences of each list");
      const { text, effect } = packed.tokens(item.pair);
      return { train, view: "update", views: ["update"], text, effect, units: summary.units, heat: null, total: item.effect, sum: effect.reduce((a, b) => a + b, 0) };
    },
  };

  /** What the Python side does when the reader has moved. @param {Record<string, any>} changed */
  function follow(changed) {
    if ("position" in changed) {
      state._page = pageOf(state.position);
      const first = PACKED_SIGNS.map((sign) => [sign, state._page[sign].items[0]]).find(([, item]) => item);
      const query = header.queries[state.position].id;
      state.selected = places.get(state.position) ?? (first ? { query, train: first[1].train, rank: 1, sign: first[0] } : {});
      emit("change:_page");
      emit("change:selected");
    }
    if ("selected" in changed || "position" in changed) {
      places.set(state.position, state.selected);
      const item = state.selected.sign ? find(state.position, state.selected.train) : undefined;
      state._item = item ? { ...item, pair: undefined } : {};
      emit("change:_item");
    }
  }
  /** @type {Record<string, any>} */
  let unsaved = {};
  const model = {
    get: (/** @type {string} */ name) => state[name],
    set(/** @type {string} */ name, /** @type {any} */ value) {
      if (same(state[name], value)) return;
      state[name] = unsaved[name] = value;
      emit(`change:${name}`);
    },
    save_changes() {
      const changed = unsaved;
      unsaved = {};
      follow(changed);
    },
    send(/** @type {{id: string, kind: string, args: any}} */ { id, kind, args }) {
      queueMicrotask(() => {
        try {
          if (!answers[kind]) throw new Error(`${kind}: this needs Python; the page holds arrays alone`);
          emit("msg:custom", { id, answer: answers[kind](args) });
        } catch (error) {
          emit("msg:custom", { id, error: inWords(error) });
        }
      });
    },
    on: (/** @type {string} */ name, /** @type {any} */ call) => void (listeners[name] ??= []).push(call),
    off: (/** @type {string} */ name, /** @type {any} */ call) => void (listeners[name] = (listeners[name] ?? []).filter((one) => one !== call)),
  };
  follow({ position: 0 });
  return /** @type {import("./host.js").Model} */ (model);
}

/** Unpack the page's data and show the Explorer. @param {Document} page */
export async function openPacked(page) {
  const el = /** @type {HTMLElement} */ (page.getElementById("explorer"));
  el.replaceChildren(h("p", {}, "Unpacking …"));
  try {
    const text = page.getElementById("packed")?.textContent ?? "";
    const compressed = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const model = offlineModel(unpacked(await new Response(stream).arrayBuffer()));
    el.replaceChildren();
    explorerWidget.render({ model, el });
  } catch (error) {
    el.replaceChildren(h("p", { role: "alert" }, `This page could not be opened: ${inWords(error)}`));
  }
}
