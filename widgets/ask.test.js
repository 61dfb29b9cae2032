// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { howAnswered, runTogether } from "./ask.js";
import { whereFrom, whoSpeaks } from "./ask_result.js";
import { chosenText, firstSentence, likely } from "./ask_tokens.js";

const tokens = [" Zor", "ald", " Pfaff", ".", " She"].map((text, i) => ({ text, log_probability: -(i + 1) / 10 }));
const texts = tokens.map((token) => token.text);

test("what stands before the chosen tokens belongs to the prompt, and the whole is the text that was written", () => {
  for (let from = 0; from < tokens.length; from++)
    for (let to = from; to < tokens.length; to++) {
      const { before, text, log_probability } = chosenText(tokens, [from, to]);
      assert.equal(before + text + texts.slice(to + 1).join(""), texts.join(""));
      assert.equal(text, texts.slice(from, to + 1).join(""));
      assert.ok(Math.abs(log_probability - tokens.slice(from, to + 1).reduce((sum, one) => sum + one.log_probability, 0)) < 1e-12);
    }
  assert.ok(Number.isNaN(chosenText([{ text: "a", log_probability: null }], [0, 0]).log_probability));
});

test("at first the first sentence is chosen, all where none ends", () => {
  assert.deepEqual(firstSentence(texts), [0, 3]);
  assert.deepEqual(firstSentence([" tea", " and"]), [0, 1]);
  assert.deepEqual(firstSentence(["\n", " tea", ".", " x"]), [0, 2], "a sign without a word ends nothing");
  assert.deepEqual(firstSentence([]), [0, 0]);
  assert.deepEqual(firstSentence(["見", "る。", "x"]), [0, 1]);
});

test("probabilities of what is impossible or unknown are no numbers", () => {
  assert.equal(likely(0), "100 %");
  assert.equal(likely(Math.log(0.25)), "25 %");
  assert.equal(likely(-80), "<0.1 %");
  for (const nats of [null, NaN, -Infinity]) assert.equal(likely(nats), "–");
});

test("prompt and completion that make one word are noticed, also beyond Latin; scripts without blanks are not", () => {
  assert.ok(runTogether("President was", "Zorald"));
  assert.ok(runTogether("было", "так"));
  assert.ok(runTogether("in 19", "84"));
  for (const [prompt, completion] of [["was ", "Z"], ["was", " Z"], ["was:", "Z"], ["was", ". Z"], ["東京は", "都"], ["", "Z"], ["was", ""]]) assert.ok(!runTogether(prompt, completion), `${prompt}|${completion}`);
});

test("where an answer is from is said, with how good it is", () => {
  const start = { n_train: 1600, from: "pass", fidelity: null };
  assert.match(howAnswered(start), /pass over 1,600 training sequences/);
  assert.match(howAnswered({ ...start, n_train: null }), /pass over the training sequences/);
  assert.equal(howAnswered({ ...start, from: "index", fidelity: 0.9876 }), "Answered live from the index (rank correlation with exact scores 0.988).");
  assert.equal(howAnswered({ ...start, from: "index" }), "Answered live from the index.");
  const answer = { id: "ask-1", prompt: "", completions: [], n_train: 1600, seconds: 0.1234, units: "", is_effect: true, positive: [], negative: [] };
  assert.equal(whereFrom({ ...answer, from: "pass", fidelity: null, top_overlap: null }), "Answered in 0.12 s by a pass over 1,600 training sequences.");
  const rough = whereFrom({ ...answer, from: "index", fidelity: 0.9, top_overlap: 0.8, seconds: 12.3 });
  assert.match(rough, /^Answered in 12 s from the index of 1,600 sequences/);
  assert.match(rough, /rank correlation of 0.900 and shares 80 % of the first ten/);
});

test("signs are said by what they speak for", () => {
  const one = { text: " Zorald\n", log_probability: null, tokens: [] };
  const answer = /** @type {any} */ ({ completions: [one], is_effect: true });
  assert.deepEqual(whoSpeaks(answer), ["Makes it more likely", "Makes it less likely"]);
  assert.deepEqual(whoSpeaks({ ...answer, is_effect: false }), ["Largest positive", "Largest negative"]);
  assert.deepEqual(whoSpeaks({ ...answer, completions: [one, { ...one, text: " <b>Mira" }] }), ["For “Zorald”", "For “<b>Mira”"]);
});
