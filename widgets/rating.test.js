// @ts-check
// Keys and words of the rating: what needs no page. tests/browser/test_rating.py drives the rest in Chromium.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ratingCommand, ratingProgress } from "./rating.js";

test("a number within the scale rates; letters are letters in the note", () => {
  assert.equal(ratingCommand({ key: "3" }, 3, false), 3);
  assert.equal(ratingCommand({ key: "4" }, 3, false), null);
  assert.equal(ratingCommand({ key: "0" }, 3, false), null);
  assert.equal(ratingCommand({ key: "s" }, 3, false), "skip");
  for (const key of ["1", "s", "n", "ArrowLeft"]) assert.equal(ratingCommand({ key }, 3, true), null);
  assert.equal(ratingCommand({ key: "Escape" }, 3, true), "leave");
  assert.equal(ratingCommand({ key: "1", ctrlKey: true }, 3, false), null);
  assert.equal(ratingCommand({ key: "toString" }, 3, false), null);
});

test("progress counts what was rated before, too", () => {
  const state = { place: 1, total: 4, rated: 6, of: 10, skipped: [0], next: 1, scale: [], pair: { prompt: "", completion: "", text: "" }, rating: null, note: "" };
  assert.equal(ratingProgress(state), "Pair 2 of 4 · 6 of 10 rated, 1 skipped");
  assert.equal(ratingProgress({ ...state, pair: null, skipped: [] }), "End of the pairs · 6 of 10 rated");
});
