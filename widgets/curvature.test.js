// @ts-check
// Shares, words and the one question at a time: what needs no page. tests/browser/ drives the rest in Chromium.

import assert from "node:assert/strict";
import { test } from "node:test";
import { axisDomain, axisNumber, axisPercent, axisTicks } from "./axes.js";
import { lastOnly, rescoredWords, shareBelow } from "./curvature.js";

test("the share below lambda is read between the ranks of a thinned spectrum", () => {
  const size = 10_000;
  const rank = Array.from({ length: 60 }, (_, i) => Math.round(size ** (i / 59)));
  const value = rank.map((one) => Math.exp(-one / 1000)); // eigenvalue r is exp(-r / 1000)
  for (const share of [0.05, 0.3, 0.9, 0.99]) {
    const lambda = Math.exp((-(1 - share) * size) / 1000);
    assert.ok(Math.abs(shareBelow({ rank, value, size }, lambda) - share) < 0.01);
  }
  assert.deepEqual([shareBelow({ rank, value, size }, 2), shareBelow({ rank, value, size }, 0)], [1, 0]);
  assert.ok(Math.abs(shareBelow({ rank: [1, 2, 3], value: [1, 0, 0], size: 3 }, 1e-9) - 2 / 3) < 1e-9);
  assert.equal(shareBelow({ rank: [], value: [], size: 0 }, 1), 0);
});

test("of many questions the first and the last are asked, one at a time", async () => {
  /** @type {number[]} */
  const asked = [];
  let open = 0;
  const ask = lastOnly(async (/** @type {number} */ value) => {
    assert.equal(++open, 1);
    asked.push(value);
    await new Promise((done) => setTimeout(done, 5));
    open--;
  });
  const first = ask(0);
  for (let i = 1; i <= 30; i++) ask(i);
  await first;
  assert.deepEqual(asked, [0, 30]);
  await ask(31);
  assert.deepEqual(asked, [0, 30, 31]);
});

test("what scoring again has shown is said in words", () => {
  const answer = { damping: 0.01, seconds: 0.23, source: "index", agreement: 0.971, overlap: 8, top: 10 };
  assert.equal(rescoredWords(answer), "Scored again in 0.2 s from the index. Against the damping of the fit: rank correlation 0.97, 8 of the first 10 are the same.");
  assert.match(rescoredWords({ ...answer, source: "pass", agreement: null, seconds: 0.01 }), /less than 0\.1 s by a pass over the training data\.$/);
  assert.match(rescoredWords({ ...answer, source: "fitted" }), /damping of the fit/);
});

test("axes have a few marks, at round numbers", () => {
  assert.deepEqual(axisTicks([1e-3, 1], true), [0.001, 0.01, 0.1, 1]);
  assert.deepEqual(axisTicks([3, 40], true), [5, 10, 20]);
  assert.ok(axisTicks([1e-22, 1], true).length <= 8);
  assert.deepEqual(axisTicks([0, 1], false), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(axisTicks([2, 2], false), [2]);
  assert.deepEqual([0, 0.01, 500, 1e-8, 3e-8, 1e6].map(axisNumber), ["0", "0.01", "500", "10⁻⁸", "3×10⁻⁸", "10⁶"]);
  assert.deepEqual([1e-4, 0.05, 1].map(axisPercent), ["0.01 %", "5 %", "100 %"]);
});

test("an axis shows what it can place, also when that is nothing", () => {
  assert.deepEqual(axisDomain([null, 0, 2, 8], { label: "", log: true }), [2, 8]);
  assert.deepEqual(axisDomain([], { label: "", log: true }), [1, 10]);
  assert.deepEqual(axisDomain([4], { label: "", log: false }), [3, 5]);
});
