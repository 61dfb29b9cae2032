// @ts-check
// A text as tokens in colour: a listbox that is walked by keys, the legend of its colours, and the choice of a pair.
import { h, newId, reveal, roving } from "./dom.js";
import { heat, signed, visible } from "./words.js";

/** @typedef {{onActive?: (index: number) => void, onMove?: (index: number) => void, onHover?: (index: number) => void, onPick?: (index: number, isRange: boolean) => void}} LineActions */

const TOKEN_LONGEST = 200; // characters of a token that are shown
const TOKEN_MARKED = 0.2; // of the largest number: from here on a token is underlined

/** Joiners belong to Persian words and to emoji; elsewhere they are shown. */
const TOKEN_LETTER = "[\\p{L}\\p{M}\\p{Extended_Pictographic}\\ufe0f]";
const TOKEN_STRAY = `(?<!${TOKEN_LETTER})[\\u200c\\u200d]|[\\u200c\\u200d](?!${TOKEN_LETTER})`;
const TOKEN_JOINER = { strays: new RegExp(TOKEN_STRAY, "gu"), blanks: new RegExp(`\\u200c|${TOKEN_STRAY}`, "gu") };
const TOKEN_CONTROL = /[\u0000-\u0008\u000b-\u001f]/g;
const TOKEN_UNSEEN = /[\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * A token as a reader can see it, and the line breaks to put after it. Control characters and blank tokens always show;
 * spaces, tabs and line breaks of others when asked for.
 * @param {string} text
 * @param {boolean} [withBlanks]
 */
export function tokenText(text, withBlanks = false) {
  const broken = text.replace(/\r\n/g, "\n");
  const after = /\n*$/.exec(broken)?.[0] ?? "";
  if (broken.trim() === "") return { shown: cutToken(withBlanks ? withSigns(broken) || "∅" : visible(text)), after: after && "\n" };
  const code = (/** @type {string} */ c) => `‹${c.charCodeAt(0).toString(16)}›`;
  const plain = (withBlanks ? broken : broken.slice(0, broken.length - after.length))
    .replace(withBlanks ? TOKEN_JOINER.blanks : TOKEN_JOINER.strays, code)
    .replace(TOKEN_CONTROL, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(TOKEN_UNSEEN, code);
  return { shown: cutToken(withBlanks ? withSigns(plain) : plain), after: withBlanks ? after && "\n" : after };
}

/** @param {string} text */
function withSigns(text) {
  return text.replace(/ /g, "·").replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/\s/g, "␣");
}

/** @param {string} text */
function cutToken(text) {
  return text.length <= TOKEN_LONGEST ? text : `${text.slice(0, TOKEN_LONGEST).replace(/[\ud800-\udbff]$/, "")}…`;
}

/** A token between thin lines, for sentences. @param {string} text */
export function saidToken(text) {
  const known = h("span", { class: "token-said", dir: "auto" }, tokenText(text).shown);
  return [" ", known, text.length <= TOKEN_LONGEST ? " " : ` of ${text.length.toLocaleString("en")} characters, `];
}

/** What the ends of the scale mean. @param {string} units @param {string} [view] */
export function heatEnds(units, view = "update") {
  if (view === "input") return { less: "lessens the effect", more: "adds to the effect" };
  return units.startsWith("nat") ? { less: "less likely", more: "more likely" } : { less: "negative", more: "positive" };
}

/**
 * The linear scale of the colours.
 * @param {"lines" | "signs" | "short"} [kind] what else tells the sign: lines under tokens, signs in cells; "short" is numbers alone
 */
export function heatLegend(kind = "lines") {
  const [low, high, less, more, of] = ["heat-end", "heat-end", "", "", ""].map((name) => h("span", name ? { class: name } : {}));
  const signs = kind === "signs" ? ["; + and − are written in strong cells"]
    : ["; underline: ", h("u", { class: "heat-key positive" }, "positive"), ", ", h("u", { class: "heat-key negative" }, "negative")];
  const key = h("span", { class: "soft" }, of, ...signs);
  const ramp = h("span", { class: "heat-ramp", "aria-hidden": "true" });
  return {
    root: h("div", { class: "heat-legend" }, ...(kind === "short" ? [low, ramp, high] : [less, low, ramp, high, more, key])),
    /** @param {number} most @param {string} units @param {string} [view] */
    update(most, units, view) {
      [low.textContent, high.textContent] = [signed(-most), signed(most)];
      [less.textContent, more.textContent] = [heatEnds(units, view).less, heatEnds(units, view).more];
      of.textContent = units;
    },
  };
}

/**
 * A line of tokens.
 * @param {string} label
 * @param {LineActions} actions `onActive` whichever way a token became the active one, `onMove` when the reader did it
 * @param {boolean} [isMultiple] several tokens can be picked
 */
export function tokenLine(label, actions, isMultiple = false) {
  const box = h("div", { role: "listbox", tabindex: "0", "aria-orientation": "horizontal", class: "token-line", dir: "auto", "aria-label": label });
  if (isMultiple) box.setAttribute("aria-multiselectable", "true");
  const rover = roving(box, actions.onActive);
  /** @type {HTMLElement[]} */
  let spans = [];
  /** @type {string[]} */
  let names = [];

  /** @param {number} index @param {boolean} [isRange] */
  function moveTo(index, isRange = false) {
    if (!spans[index]) return;
    rover.point(index);
    reveal(box, spans[index]);
    actions.onMove?.(index);
    if (isRange) actions.onPick?.(index, true);
  }
  /** The token above or below the active one. @param {-1 | 1} way */
  function across(way) {
    const from = spans[rover.active()]?.getClientRects()[0];
    if (!from) return;
    const middle = (from.left + from.right) / 2;
    let [best, gap, top] = [-1, Infinity, NaN];
    for (let i = rover.active() + way; spans[i]; i += way) {
      const there = spans[i].getClientRects()[0];
      if (!there || Math.abs(there.top - from.top) < 4) continue; // the same line
      if (Number.isNaN(top)) top = there.top;
      if (Math.abs(there.top - top) >= 4) break; // the line after the next
      const distance = Math.abs((there.left + there.right) / 2 - middle);
      if (distance < gap) [best, gap] = [i, distance];
    }
    moveTo(best);
  }
  /** @param {Event} event */
  const at = (event) => spans.indexOf(/** @type {HTMLElement} */ (/** @type {Element} */ (event.target).closest("[role=option]")));

  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isRange = isMultiple && event.shiftKey;
    const [now, forward] = [rover.active(), getComputedStyle(box).direction === "rtl" ? -1 : 1];
    const to = { ArrowLeft: now - forward, ArrowRight: now + forward, Home: 0, End: spans.length - 1 }[event.key];
    if (to !== undefined) moveTo(to, isRange);
    else if (event.key === "ArrowUp") across(-1);
    else if (event.key === "ArrowDown") across(1);
    else if (isMultiple && (event.key === " " || event.key === "Enter")) actions.onPick?.(now, isRange);
    else if (event.key === "Escape") /** @type {HTMLElement | null} */ (box.closest(".inflab"))?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation(); // elsewhere these keys step through queries
  });
  box.addEventListener("click", (event) => {
    const index = at(event);
    if (index < 0) return;
    rover.point(index);
    actions.onMove?.(index);
    actions.onPick?.(index, event.shiftKey);
  });
  box.addEventListener("mouseover", (event) => at(event) >= 0 && actions.onHover?.(at(event)));
  box.addEventListener("mouseleave", () => actions.onHover?.(rover.active()));

  return {
    root: box,
    active: () => rover.active(),
    /** @param {number} index */
    point: (index) => rover.point(index),
    /** Write the tokens, without colours. @param {string[]} text @param {boolean} [withBlanks] */
    write(text, withBlanks) {
      const whole = document.createDocumentFragment();
      names = [];
      spans = text.map((piece) => {
        const { shown, after } = tokenText(piece, withBlanks);
        const span = h("span", { role: "option", "aria-selected": "false", class: "token" }, shown);
        names.push(tokenText(piece).shown.trim());
        whole.append(span, ...(after ? [after] : []));
        return span;
      });
      box.replaceChildren(whole);
      box.scrollTop = 0;
    },
    /** Colour them. @param {(number | null)[]} effect @param {number} most @param {string} units @param {number} active */
    paint(effect, most, units, active) {
      spans.forEach((span, i) => {
        const number = effect[i] ?? null;
        const strength = heat(number, most);
        span.className = `token ${number === null || number === 0 ? "zero" : number < 0 ? "negative" : "positive"}${strength > TOKEN_MARKED ? " marked" : ""}`;
        span.style.setProperty("--heat", `${Math.round(100 * strength)}%`);
        span.title = `${signed(number)} ${units}`;
        span.setAttribute("aria-label", `${names[i]}, ${signed(number)}`);
      });
      rover.refill(spans, Math.max(0, active));
    },
    /** @param {(index: number) => boolean} isPicked */
    choose(isPicked) {
      spans.forEach((span, i) => span.setAttribute("aria-selected", String(isPicked(i))));
    },
  };
}

/**
 * Which of several pairs is looked at.
 * @param {{onPosition: (position: number) => void, onRank: (rank: number) => void}} actions
 */
export function pairPicker(actions) {
  const [query, sequence] = [h("select", {}), h("select", {})];
  const labels = [labelledControl("Query", query), labelledControl("Sequence", sequence)];
  query.addEventListener("change", () => actions.onPosition(query.selectedIndex));
  sequence.addEventListener("change", () => actions.onRank(sequence.selectedIndex + 1));
  const root = h("div", { class: "pair-picker" }, ...labels);
  return {
    root,
    /** @param {{queries?: string[], sequences?: string[]}} choices @param {number} position @param {number} rank */
    update({ queries = [], sequences = [] }, position, rank) {
      fillSelect(query, queries, position);
      fillSelect(sequence, sequences, rank - 1);
      [queries, sequences].forEach((names, i) => (labels[i].hidden = names.length < 2));
      root.hidden = queries.length < 2 && sequences.length < 2;
    },
  };
}

/** A control with its name before it. @param {string} name @param {HTMLElement} control */
export function labelledControl(name, control) {
  const id = newId();
  control.id = id;
  return h("span", { class: "token-choice" }, h("label", { for: id }, `${name} `), control);
}

/** @param {HTMLSelectElement} select @param {string[]} names @param {number} chosen */
export function fillSelect(select, names, chosen) {
  const isSame = select.options.length === names.length && names.every((name, i) => select.options[i].text === name);
  if (!isSame) select.replaceChildren(...names.map((name) => h("option", {}, name)));
  select.selectedIndex = chosen;
}
