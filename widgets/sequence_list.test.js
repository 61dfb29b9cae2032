// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { csvCell, picksCsv, picksMarkdown } from "./picks.js";
import { countWords, likelyWords, rowWords } from "./sequence_list.js";
import { rowsInSight } from "./virtual_list.js";

const about = { total: 3, of: 40, share: 0.25, most: 1, units: "nat per added copy", predicts: true, items: [] };
const item = { rank: 2, train: "t1", effect: -0.5, influence: -20, share: 0.1, text: "words", meta: {} };

test("a row says its rank, its effect in nats and in words, its share, and whether it is pinned", () => {
  assert.equal(rowWords(item, about, true), "2. −0.500 nat, ×0.607 as likely, 10 % of the total. Pinned. words");
  assert.equal(rowWords({ ...item, effect: 3 }, about, false), "2. +3.00 nat, 10 % of the total. words");
  assert.ok(rowWords({ ...item, text: "x".repeat(9999) }, about, false).length <= 300);
});

test("a score that predicts nothing is no likelihood", () => {
  assert.equal(rowWords(item, { ...about, predicts: false, units: "1" }, false), "2. −0.500. words");
  assert.equal(rowWords(item, { ...about, predicts: false, units: "nat" }, false), "2. −0.500 nat. words");
  assert.equal(countWords({ ...about, predicts: false }, true), "3 of 40");
});

test("a row says what it does to the probability, where that is a prediction worth a digit", () => {
  assert.equal(likelyWords(item, about), "×0.607 as likely");
  assert.deepEqual([0.001, 2, null].map((effect) => likelyWords({ ...item, effect }, about)), ["", "", ""]);
  assert.equal(likelyWords(item, { ...about, predicts: false }), "");
});

test("a count says what a filter leaves and how much of the total that is", () => {
  assert.equal(countWords({ ...about, of: 12345, total: 12345 }, false), "12,345");
  assert.equal(countWords(about, true), "3 of 40, 25 % of the total");
});

test("rows in sight are drawn, with a few around them, and never more than there are", () => {
  assert.deepEqual(rowsInSight(0, 270, 5000), { first: 0, last: 9 });
  assert.deepEqual(rowsInSight(60 * 1000, 270, 5000), { first: 996, last: 1009 });
  assert.deepEqual(rowsInSight(60 * 5000 - 270, 270, 5000).last, 5000);
  assert.deepEqual(rowsInSight(99999, 270, 3), { first: 3, last: 3 });
  assert.deepEqual(rowsInSight(0, 270, 0), { first: 0, last: 0 });
});

test("no cell of a CSV is a formula, and numbers stay numbers", () => {
  const cells = /** @type {[unknown, string][]} */ ([
    ["=1+1", "'=1+1"], ["  +1", "'  +1"], ["-x", "'-x"], ["@a", "'@a"], ["\tx", "'\tx"], [-0.5, "-0.5"], [null, ""],
    ["plain", "plain"], ['say "so", he', '"say ""so"", he"'], ["=a,b", '"\'=a,b"'], ["two\nlines", '"two\nlines"'],
  ]);
  for (const [value, written] of cells) assert.equal(csvCell(value), written);
});

test("picks are a table with their labels, one row each", () => {
  const rows = [
    { query: "q", train: "a|b", note: "<b>", rank: 1, sign: "positive", effect: -0.5, share: 0.1, text: "two\nlines", meta: { source: "x", text: "=y" } },
    { query: "q", train: 7, note: "", rank: null, sign: null, effect: null, share: null, text: "", meta: {} },
  ];
  assert.equal(picksCsv(rows), "query,train,sign,rank,effect,share,note,text,source,train_text\r\n"
    + "q,a|b,positive,1,-0.5,0.1,<b>,\"two\nlines\",x,'=y\r\nq,7,,,,,,,,\r\n");
  const lines = picksMarkdown(rows).trimEnd().split("\n");
  assert.equal(lines.length, 4);
  assert.ok(lines[2].includes("a\\|b") && lines[2].includes("\\<b\\>") && lines[2].includes("two lines"));
  for (const line of lines.slice(1)) assert.equal(line.split(/(?<!\\)\|/).length, 12);
});
