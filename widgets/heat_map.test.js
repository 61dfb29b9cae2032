// @ts-check
// Cells: what needs no page. tests/browser/ drives the rest in Chromium.
import assert from "node:assert/strict";
import { test } from "node:test";
import { cellPaths, heatLevel, largestCell, shortNames } from "./heat_map.js";

test("the scale is linear and symmetric", () => {
  assert.deepEqual([-2, -1, 0, 0.5, 2, null, NaN].map((effect) => heatLevel(effect, 2)), [-20, -10, 0, 5, 20, 0, 0]);
  assert.equal(heatLevel(1, 0), 0);
});

test("every cell that is not zero is drawn once, the strong ones with their sign", () => {
  const { cells, signs } = cellPaths([[1, -1, 0], [0.05, null, 1]], 1);
  const count = (/** @type {string} */ path, /** @type {RegExp} */ what) => (path.match(what) ?? []).length;
  assert.deepEqual(cells.map(({ level, path }) => [level, count(path, /z/g)]), [[20, 2], [-20, 1], [1, 1]]);
  assert.deepEqual([count(signs, /h6/g), count(signs, /v6/g)], [3, 2]);
  assert.deepEqual(cellPaths([], 0), { cells: [], signs: "" });
});

test("names drop what all of them share, and keep what tells them apart", () => {
  assert.deepEqual(shortNames(["transformer.h.0.mlp.c_fc", "transformer.h.11.mlp.c_fc"]), ["0.mlp.c_fc", "11.mlp.c_fc"]);
  assert.deepEqual(shortNames(["a.b", "a.b.c"]), ["b", "b.c"]);
  assert.deepEqual(shortNames(["transformer.h.0.mlp.c_fc"]), ["0.mlp.c_fc"]);
  assert.deepEqual(shortNames([]), []);
});

test("the cursor begins at the largest number", () => {
  assert.deepEqual(largestCell([[1, null], [-3, 2]]), { row: 1, column: 0 });
  assert.deepEqual(largestCell([[null]]), { row: 0, column: 0 });
  assert.deepEqual(largestCell([]), { row: 0, column: 0 });
});
