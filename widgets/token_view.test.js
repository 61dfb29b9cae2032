// @ts-check
// Tokens in words and signs: what needs no page. tests/browser/ drives the rest in Chromium.
import assert from "node:assert/strict";
import { test } from "node:test";
import { heatEnds, tokenText } from "./token_line.js";
import { TOKEN_VIEWS } from "./token_view.js";

const shown = (/** @type {string} */ text, withBlanks = false) => tokenText(text, withBlanks).shown;

test("spaces, tabs and line breaks show on demand, and a line break breaks the line either way", () => {
  assert.deepEqual(tokenText(".\n"), { shown: ".", after: "\n" });
  assert.deepEqual(tokenText(".\n", true), { shown: ".⏎", after: "\n" });
  assert.deepEqual(tokenText("a b\tc"), { shown: "a b\tc", after: "" });
  assert.equal(shown("a b\tc", true), "a·b⇥c");
  assert.equal(shown("a\r\nb", true), "a⏎b");
});

test("what would be invisible always shows", () => {
  assert.deepEqual([" ", "\n\n", "", "\u0000", "\u001b[31m", "a\u202eb", "\ufeff", "a\u200bb"].map((text) => shown(text)),
    ["␣", "⏎⏎", "∅", "␀", "␛[31m", "a‹202e›b", "‹feff›", "a‹200b›b"]);
  assert.deepEqual([" ", "\n\n", "", "\u0000"].map((text) => shown(text, true)), ["·", "⏎⏎", "∅", "␀"]);
  assert.deepEqual(tokenText("\n\n").after, "\n"); // its signs stand on one line
});

test("joiners stay where a script or an emoji needs them", () => {
  assert.deepEqual(["👩‍👩‍👧", "می‌روم", "\u200d", "a \u200c"].map((text) => shown(text)), ["👩‍👩‍👧", "می‌روم", "‹200d›", "a ‹200c›"]);
  assert.equal(shown("👩‍👩‍👧", true), "👩‍👩‍👧");
  assert.equal(shown("می‌روم", true), "می‹200c›روم");
});

test("a long token is cut, never inside a character", () => {
  const { shown: long } = tokenText("x".repeat(199) + "👩".repeat(9000));
  assert.equal(long, `${"x".repeat(199)}…`);
  assert.equal(shown("\ud800 alone"), "\ud800 alone");
});

test("a similarity promises no likelihood", () => {
  assert.deepEqual(heatEnds("nat per added copy"), { less: "less likely", more: "more likely" });
  assert.deepEqual(heatEnds("1"), { less: "negative", more: "positive" });
});

test("every view says what it means, and where its numbers stand", () => {
  assert.deepEqual(Object.keys(TOKEN_VIEWS), ["update", "output", "input"]);
  for (const { means, shift } of Object.values(TOKEN_VIEWS)) assert.ok(means.endsWith(".") && shift.endsWith("."));
  assert.match(TOKEN_VIEWS.update.shift, /one token early/);
});
