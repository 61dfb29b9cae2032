// @ts-check
// A listbox of any length: only the rows in sight are in the page, and their items are asked for in windows.
import { h, newId } from "./dom.js";

const ROW_HEIGHT = 60; // px, as in virtual_list.css
const ROWS_AROUND = 4; // beyond what is in sight, above and below
const WINDOW_SIZE = 60; // items asked for at once
const MOST_ROWS = 200_000; // browsers draw no taller box; the filter finds what lies beyond

/** Which rows are drawn. @param {number} scrolled px @param {number} height of the box, px @param {number} total */
export function rowsInSight(scrolled, height, total) {
  const first = Math.max(0, Math.floor(scrolled / ROW_HEIGHT) - ROWS_AROUND);
  const last = Math.min(total, Math.ceil((scrolled + height) / ROW_HEIGHT) + ROWS_AROUND);
  return { first: Math.min(first, last), last };
}

/**
 * @template T
 * @param {{label: string, row: (item: T, index: number) => {content: Node[], label: string, className: string}, isSelected: (item: T) => boolean, onPick: (item: T) => void, onKey?: (event: KeyboardEvent, item: T | undefined) => boolean, fetch: (offset: number, count: number) => Promise<{total: number, items: T[]} | undefined>, onProblem: (error: unknown) => void}} options
 */
export function virtualList({ label, row, isSelected, onPick, onKey = () => false, fetch, onProblem }) {
  const id = newId();
  const spacer = h("div", { class: "virtual-space", role: "presentation" });
  const box = h("div", { role: "listbox", tabindex: "0", "aria-label": label, class: "virtual-list" }, spacer);
  /** @type {Map<number, T>} */
  let items = new Map();
  /** @type {Map<number, HTMLElement>} */
  let drawn = new Map();
  /** @type {Set<number>} */
  let asked = new Set();
  let [total, active, turn, isWaiting] = [0, 0, 0, false];
  // Kept here, because asking the page for them makes it lay everything out anew.
  let [scrolled, height] = [0, 4 * ROW_HEIGHT];
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.height === height || contentRect.height === 0) return;
    height = contentRect.height;
    later();
  }).observe(box);

  /** @param {number} index */
  function makeRow(index) {
    const item = items.get(index);
    const made = h("div", { role: "option", id: `${id}-${index}`, "aria-setsize": String(total), "aria-posinset": String(index + 1) });
    made.style.transform = `translateY(${index * ROW_HEIGHT}px)`;
    if (item === undefined) {
      made.className = "virtual-row waiting-row";
      made.setAttribute("aria-label", `${index + 1} of ${total}, on its way`);
      made.setAttribute("aria-selected", "false");
      return made;
    }
    const { content, label: words, className } = row(item, index);
    made.className = `virtual-row ${className}`;
    made.setAttribute("aria-label", words);
    made.setAttribute("aria-selected", String(isSelected(item)));
    made.append(...content);
    made.addEventListener("click", () => (point(index, false), onPick(item)));
    return made;
  }
  function draw() {
    isWaiting = false;
    const { first, last } = rowsInSight(scrolled, height, total);
    for (const [index, element] of drawn) {
      if (index >= first && index < last) continue;
      element.remove();
      drawn.delete(index);
    }
    const added = document.createDocumentFragment();
    for (let index = first; index < last; index++) {
      if (drawn.has(index)) continue;
      const made = makeRow(index);
      drawn.set(index, made);
      added.append(made);
    }
    spacer.append(added);
    for (let start = first - (first % WINDOW_SIZE); start < last; start += WINDOW_SIZE) if (!asked.has(start) && !items.has(start)) load(start);
    mark();
  }
  /** @param {number} start */
  async function load(start) {
    const mine = turn;
    asked.add(start);
    try {
      const answer = await fetch(start, WINDOW_SIZE);
      if (mine !== turn || answer === undefined) return;
      take(start, answer);
      redraw(start, start + WINDOW_SIZE);
    } catch (error) {
      if (mine !== turn) return;
      asked.delete(start); // the next scroll asks again
      onProblem(error);
    }
  }
  /** @param {number} start @param {{total: number, items: T[]}} answer */
  function take(start, answer) {
    if (Math.min(answer.total, MOST_ROWS) !== total) {
      total = Math.min(answer.total, MOST_ROWS);
      spacer.style.height = `${total * ROW_HEIGHT}px`;
    }
    answer.items.forEach((item, i) => items.set(start + i, item));
  }
  /** Draw some rows anew. @param {number} [from] @param {number} [to] */
  function redraw(from = 0, to = Infinity) {
    for (const [index, element] of drawn) {
      if (index < from || index >= to) continue;
      element.remove();
      drawn.delete(index);
    }
    draw();
  }
  function later() {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(draw);
  }
  /** @param {number} index @param {boolean} [isSeen] scroll to it */
  function point(index, isSeen = true) {
    active = Math.max(0, Math.min(total - 1, index));
    if (isSeen && total > 0) {
      const top = active * ROW_HEIGHT;
      if (top < scrolled) box.scrollTop = scrolled = top;
      else if (top + ROW_HEIGHT > scrolled + height) box.scrollTop = scrolled = top + ROW_HEIGHT - height;
      draw();
    }
    mark();
  }
  function mark() {
    for (const [index, element] of drawn) element.classList.toggle("active", index === active);
    drawn.has(active) ? box.setAttribute("aria-activedescendant", `${id}-${active}`) : box.removeAttribute("aria-activedescendant");
  }
  box.addEventListener("scroll", () => {
    scrolled = box.scrollTop;
    later();
  }, { passive: true });
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(height / ROW_HEIGHT) - 1);
    const to = { ArrowUp: active - 1, ArrowDown: active + 1, PageUp: active - page, PageDown: active + page, Home: 0, End: total - 1 }[event.key];
    const item = items.get(active);
    if (to !== undefined) point(to);
    else if ((event.key === "Enter" || event.key === " ") && item !== undefined) onPick(item);
    else if (!onKey(event, item)) return;
    event.preventDefault();
  });
  return {
    root: box,
    focus: () => box.focus(),
    total: () => total,
    item: (/** @type {number} */ index) => items.get(index),
    /** Items whose rows the reader sees. @returns {T[]} */
    inSight() {
      const [from, to] = [Math.floor(scrolled / ROW_HEIGHT), Math.ceil((scrolled + height) / ROW_HEIGHT)];
      return [...Array(Math.max(0, to - from)).keys()].flatMap((i) => items.get(from + i) ?? []);
    },
    redraw,
    /** What is chosen has changed. */
    reselect() {
      for (const [index, element] of drawn) {
        const item = items.get(index);
        element.setAttribute("aria-selected", String(item !== undefined && isSelected(item)));
      }
    },
    point,
    /** Another list; its first items, where they are there already. @param {{total: number, items: T[]} | null} first */
    reset(first) {
      turn += 1;
      [items, asked, active] = [new Map(), new Set(), 0];
      drawn = new Map();
      spacer.replaceChildren();
      if (scrolled > 0) box.scrollTop = scrolled = 0;
      total = 0;
      if (first) take(0, first);
      else {
        spacer.style.height = "0";
        load(0);
      }
      draw();
    },
  };
}
