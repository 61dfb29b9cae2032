// @ts-check
// Pinned sequences: a note each, and the whole as a file to take away.
import { button, h } from "./dom.js";
import { inWords } from "./host.js";
import { download } from "./picture.js";
import { signed } from "./words.js";

/** @typedef {import("./dom.js").Plain} Plain */
/** @typedef {{query: Plain, train: Plain, note: string}} PickedOne */
/** @typedef {PickedOne & {rank: number | null, sign: string | null, effect: number | null, share: number | null, text: string, meta: Record<string, Plain>}} PickedRow */

const PICK_COLUMNS = ["query", "train", "sign", "rank", "effect", "share", "note", "text"];

/** A value that a spreadsheet takes as text: what begins like a formula gets an apostrophe in front. @param {unknown} value */
export function csvCell(value) {
  if (value === null || value === undefined) return "";
  const text = String(value);
  const safe = typeof value === "string" && /^\s*[=+\-@]|^[\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** @param {PickedRow[]} rows @returns {[string[], unknown[][]]} */
function pickCells(rows) {
  const labels = [...new Set(rows.flatMap((row) => Object.keys(row.meta ?? {})))];
  const head = [...PICK_COLUMNS, ...labels.map((name) => (PICK_COLUMNS.includes(name) ? `train_${name}` : name))];
  return [head, rows.map((row) => [...PICK_COLUMNS.map((name) => /** @type {any} */ (row)[name]), ...labels.map((name) => row.meta?.[name])])];
}

/** @param {PickedRow[]} rows */
export function picksCsv(rows) {
  const [head, cells] = pickCells(rows);
  return [head, ...cells].map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

/** Markup in a text stays text. @param {PickedRow[]} rows */
export function picksMarkdown(rows) {
  const [head, cells] = pickCells(rows);
  const cell = (/** @type {unknown} */ value) => String(value ?? "").replace(/\s+/g, " ").replace(/[\\`*_{}[\]<>|#~!&]/g, (c) => `\\${c}`);
  return [head, head.map(() => "---"), ...cells.map((row) => row.map(cell))].map((row) => `| ${row.join(" | ")} |`).join("\n") + "\n";
}

/** @param {{ask: import("./host.js").Ask, onNote: (pick: PickedOne, note: string) => void, onUnpin: (pick: PickedOne) => void, onRows?: (rows: PickedRow[]) => void}} actions */
export function picksPanel({ ask, onNote, onUnpin, onRows = () => {} }) {
  const list = h("ul", { class: "picks-list" });
  const head = h("summary", {}, "Pinned (0)");
  const said = h("span", { class: "soft", role: "status" });
  /** @type {PickedOne[]} */
  let shown = [];
  /** @param {(rows: PickedRow[]) => string} write @param {string} type @param {string} name */
  const save = (write, type, name) => async () => {
    try {
      download(new Blob([write(await ask("list.picks", { picks: shown, whole: true }))], { type }), name);
      said.textContent = `${shown.length} saved`;
    } catch (error) {
      said.textContent = inWords(error);
    }
  };
  const root = h("details", { class: "picks" }, head, list,
    h("div", { class: "picks-bar" }, button("Save as CSV", save(picksCsv, "text/csv", "picks.csv")), button("Save as markdown", save(picksMarkdown, "text/markdown", "picks.md")), said));
  /** @param {PickedRow} row */
  function line(row) {
    const note = h("input", { type: "text", value: row.note, placeholder: "a note", "aria-label": `Note on sequence ${row.train}`, class: "pick-note" });
    note.addEventListener("change", () => onNote(row, note.value));
    return h("li", { class: "pick" }, h("span", { class: "pick-what", dir: "auto" }, h("b", {}, `${row.train}`), ` for ${row.query}, `, h("span", { class: "number" }, signed(row.effect)), ` ${row.text}`), note,
      button("Unpin", () => onUnpin(row), { "aria-label": `Unpin sequence ${row.train}`, class: "unpin" }));
  }
  /** A note alone has changed, here or in Python. */
  function renote() {
    list.querySelectorAll("input").forEach((field, i) => {
      if (document.activeElement !== field && shown[i]) field.value = shown[i].note;
    });
  }
  return {
    root,
    /** @param {PickedOne[]} picks */
    async update(picks) {
      const before = shown.map(({ query, train }) => [query, train]);
      shown = picks;
      head.textContent = `Pinned (${picks.length})`;
      root.hidden = picks.length === 0;
      if (JSON.stringify(before) === JSON.stringify(picks.map(({ query, train }) => [query, train]))) return renote(); // no field loses the focus
      try {
        const rows = picks.length ? await ask("list.picks", { picks }) : [];
        if (shown !== picks) return;
        list.replaceChildren(...rows.map(line));
        onRows(rows);
      } catch (error) {
        said.textContent = inWords(error);
      }
    },
  };
}
