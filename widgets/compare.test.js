// @ts-check
// Words and numbers of the comparison: what needs no page. tests/browser/test_compare.py drives the rest in Chromium.

import assert from "node:assert/strict";
import { test } from "node:test";
import { middleHalf } from "./batch_strip.js";
import { axisSpan, twoDigits } from "./score_scatter.js";
import { placesMoved } from "./slope_chart.js";

test("how far a rank moved is said in words, a smaller place being a higher one", () => {
  assert.equal(placesMoved(3, 3), "same place");
  assert.equal(placesMoved(3, 2), "1 place higher");
  assert.equal(placesMoved(3, 4003), "4,000 places lower");
});

test("median and middle half are the quartiles, without what has no number", () => {
  assert.deepEqual(middleHalf([4, null, 0, 1, 3, 2]), { low: 1, median: 2, high: 3 });
  assert.deepEqual(middleHalf([0.5]), { low: 0.5, median: 0.5, high: 0.5 });
  assert.equal(middleHalf([null]), null);
});

test("an axis holds 0 and all numbers, also when there are none", () => {
  const [low, high] = axisSpan([2, 5]);
  assert.ok(low < 0 && high > 5);
  assert.ok(axisSpan([])[0] < axisSpan([])[1]);
});

test("correlations have two digits and a true minus", () => {
  assert.deepEqual([0.256, -0.5, 1, null].map(twoDigits), ["0.26", "−0.50", "1.00", "–"]);
});
