// @ts-check
// Sums and picks of the pair map: what needs no page. tests/browser/ drives the rest in Chromium.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pairHeat, pickToken } from "./pair_map.js";

const EFFECT = [[1, 2, -4], [10, 20, 40]];

test("without a choice both lines show their sums over the other", () => {
  assert.deepEqual(pairHeat(EFFECT, 3, "query", new Set()), { query: [-1, 70], train: [11, 22, 36], total: 69, chosen: 69 });
});

test("chosen query tokens are answered by training tokens, and the other way round", () => {
  assert.deepEqual(pairHeat(EFFECT, 3, "query", new Set([0])), { query: [-1, 70], train: [1, 2, -4], total: 69, chosen: -1 });
  assert.deepEqual(pairHeat(EFFECT, 3, "train", new Set([0, 2])), { query: [-3, 50], train: [11, 22, 36], total: 69, chosen: 47 });
});

test("what is no number counts as nothing", () => {
  assert.deepEqual(pairHeat([[null, 1], [null, null]], 2, "query", new Set()), { query: [1, null], train: [null, 1], total: 1, chosen: 1 });
  assert.deepEqual(pairHeat([], 0, "query", new Set()), { query: [], train: [], total: null, chosen: null });
});

test("a pick toggles one token, a range adds all of it", () => {
  assert.deepEqual([...pickToken(new Set([1]), 1, null)], []);
  assert.deepEqual([...pickToken(new Set([1]), 3, null)], [1, 3]);
  assert.deepEqual([...pickToken(new Set([5]), 2, 4)], [5, 2, 3, 4]);
});
