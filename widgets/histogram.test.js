// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { binOf, binsBetween, tickEdges, tickLabel } from "./histogram.js";

test("a drag covers the bins under it, in either direction, and never leaves the picture", () => {
  assert.deepEqual(binsBetween(0.21, 0.49, 10), [2, 4]);
  assert.deepEqual(binsBetween(0.49, 0.21, 10), [2, 4]);
  assert.deepEqual(binsBetween(-3, 7, 10), [0, 9]);
  assert.deepEqual(binsBetween(0.5, 0.5, 10), [5, 5]);
  assert.deepEqual(binsBetween(2, 3, 10), [9, 9]);
});

test("bins are half open, as the lists are filtered", () => {
  const edges = [-2, -1, 1, 2];
  assert.deepEqual([-2, -1, 0, 1, 1.999].map((value) => binOf(value, edges)), [0, 1, 1, 2, 2]);
  assert.deepEqual([-2.1, 2, NaN].map((value) => binOf(value, edges)), [-1, -1, -1]);
  assert.equal(binOf(0, []), -1);
});

test("ticks are powers of ten of both signs, not too many", () => {
  const sizes = [1e-6, 3e-6, 1e-5, 1e-4, 1e-3, 1e-2, 5e-2];
  const edges = [...sizes.map((size) => -size).reverse(), ...sizes];
  assert.deepEqual(tickEdges(edges, 5), [-1e-2, -1e-3, -1e-4, -1e-5, -1e-6, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2]);
  assert.deepEqual(tickEdges(edges, 2), [-1e-2, -1e-5, 1e-5, 1e-2]);
  assert.deepEqual(tickEdges([-5, -3, 3, 5]), []);
  assert.deepEqual([0.01, -1, 10, 100, -1e-5, 1e4].map(tickLabel), ["+0.01", "−1", "+10", "+100", "−10⁻⁵", "+10⁴"]);
});
