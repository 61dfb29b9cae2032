// @ts-check
// The fitted law as a line and in words: what needs no page. tests/browser/ drives the rest in Chromium.

import assert from "node:assert/strict";
import { test } from "node:test";
import { tailExponent, tailLaw } from "./tail_plot.js";

const FIT = { alpha: 3, alpha_se: 0.051, xmin: 2, p: 0.4, n_tail: 50, n_positive: 200 };

test("the law starts with the share of the tail and falls by its exponent", () => {
  assert.deepEqual(tailLaw(FIT, 20), { x: [2, 20], y: [0.25, 0.0025] });
});

test("the exponent comes with its error, and p where it was tested", () => {
  assert.equal(tailExponent(FIT), "exponent 3.00 ± 0.05, p = 0.40");
  assert.equal(tailExponent({ ...FIT, p: null }), "exponent 3.00 ± 0.05");
});
