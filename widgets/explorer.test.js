// @ts-check
// Words, numbers and keys of the Explorer: what needs no page. tests/browser/ drives the rest in Chromium.

import assert from "node:assert/strict";
import { test } from "node:test";
import { command, digits, factor, heat, largest, percent, samePair, signed, visible } from "./explorer.js";

test("numbers always carry a sign and three digits", () => {
  // The Python half writes the same (tests/widgets/test_payload.py).
  const cases = /** @type {[number | null, string][]} */ ([
    [1.5, "+1.50"], [-0.12345, "−0.123"], [0, "0"], [100, "+100"], [1234, "+1.23×10³"], [-4.5e-6, "−4.50×10⁻⁶"],
    [0.0001, "+0.000100"], [NaN, "–"], [null, "–"], [999.96, "+1.00×10³"],
  ]);
  for (const [value, text] of cases) assert.equal(signed(value), text);
  assert.equal(digits(1e-12), "1.00×10⁻¹²");
});

test("shares are percentages that never round a trace to nothing", () => {
  assert.deepEqual([0, 0.00001, 0.0312, 0.0996, 0.466, 1, null].map(percent), ["0.0 %", "<0.1 %", "3.1 %", "10 %", "47 %", "100 %", "–"]);
});

test("a small effect in nats multiplies the probability by its exponential, a large one promises nothing", () => {
  const said = [0, Math.log(2), -Math.log(2), 1.01, -3, null].map(factor);
  assert.deepEqual(said, [", ×1.00 as likely", ", ×2.00 as likely", ", ×0.500 as likely", "", "", ""]);
});

test("whitespace, control characters and empty tokens can be seen", () => {
  assert.equal(visible(" was"), " was");
  assert.equal(visible("  "), "␣␣");
  assert.equal(visible(".\n"), ".⏎");
  assert.equal(visible("\r\n\t"), "⏎⇥");
  assert.equal(visible("\u0000\u001b"), "␀␛");
  assert.equal(visible("a\u202eb"), "a‹202e›b");
  assert.equal(visible(""), "∅");
  assert.equal(visible("<b>Ж😀</b>"), "<b>Ж😀</b>");
});

test("heat is linear, unsigned and never beyond full", () => {
  assert.deepEqual([heat(1, 4), heat(-4, 4), heat(9, 4), heat(0, 0), heat(null, 4)], [0.25, 1, 1, 0, 0]);
  assert.equal(largest([1, -3, null]), 3);
  assert.equal(largest([]), 0);
});

test("keys step, pick and walk by where they are pressed; the rest is the browser's", () => {
  assert.equal(command({ key: "ArrowRight" }, "root"), "next");
  assert.equal(command({ key: "ArrowRight" }, "list"), "next");
  assert.equal(command({ key: "ArrowRight" }, "tokens"), "down");
  assert.equal(command({ key: "Home" }, "root"), "first");
  assert.equal(command({ key: "Home" }, "list"), "start");
  assert.equal(command({ key: "Enter" }, "list"), "pick");
  assert.equal(command({ key: "Enter" }, "root"), null);
  assert.equal(command({ key: "ArrowDown" }, "text"), null);
  assert.equal(command({ key: "Escape" }, "root"), null);
  for (const place of /** @type {const} */ (["root", "text", "list", "tokens"])) {
    assert.equal(command({ key: "Tab" }, place), null);
    assert.equal(command({ key: "a" }, place), null);
    assert.equal(command({ key: "ArrowRight", ctrlKey: true }, place), null);
  }
});

test("a pair is the same when query, sign and rank are", () => {
  const pair = /** @type {const} */ ({ query: "q", train: 1, rank: 1, sign: "positive" });
  assert.ok(samePair(pair, { ...pair }));
  assert.ok(!samePair(pair, { ...pair, query: "p" }));
  assert.ok(!samePair({}, {}));
});
