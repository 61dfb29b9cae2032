// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { changeWords, removedWords } from "./what_if.js";

/** @type {any} */
const found = { trains: ["a"], effect: -0.25, percent: -22.1, units: "nat", n_query: 3, batch: [] };

test("a change has its sign, its units before its per cent, and a dash where nothing is known", () => {
  assert.equal(changeWords(-3.2, -95.9), "−3.20 (−95.9 %)");
  assert.equal(changeWords(0.05, 5.13, "nat"), "+0.0500 nat (+5.13 %)");
  assert.equal(changeWords(0.05, undefined, "nat", 0.01), "+0.0500 ± 0.0100 nat");
  assert.equal(changeWords(null, null, "nat"), "–");
  assert.equal(changeWords(undefined, 3), "–");
});

test("what a removal does is said in a sentence", () => {
  assert.equal(removedWords(found), "Leaving out this document is predicted to change this query by −0.250 nat (−22.1 %): less likely.");
  assert.match(removedWords({ ...found, trains: ["a", "b"], effect: 0.25 }), /these 2 documents together .* \+0\.250 nat .*: more likely\.$/);
  assert.match(removedWords({ ...found, effect: 0, percent: 0 }), /by 0 nat \(\+0 %\)\.$/, "no change makes nothing more likely");
  assert.match(removedWords({ ...found, effect: null, percent: null }), /by –\.$/);
  assert.match(removedWords({ ...found, is_contrast: true }), /: the first completion less likely against the second\.$/);
});

test("a prediction far beyond first order says so, unless it was measured", () => {
  assert.match(removedWords({ ...found, effect: -14, percent: -100 }), /: less likely\. .*beyond 1 nat/);
  assert.doesNotMatch(removedWords(found), /beyond/);
  assert.doesNotMatch(removedWords({ ...found, effect: -14, measured: -3 }), /beyond/);
});

test("what was measured stands beside, with its spread where several trainings give one", () => {
  const measured = { ...found, measured: -0.3, measured_se: 0.02, measured_percent: -25.9 };
  assert.match(removedWords(measured), /Trained again without: −0\.300 ± 0\.0200 nat \(−25\.9 %\)\.$/);
  assert.match(removedWords({ ...measured, measured_se: null }), /Trained again without: −0\.300 nat \(−25\.9 %\)\.$/);
});
