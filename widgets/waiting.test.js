// @ts-check
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { howFar, waiting } from "./waiting.js";

/** As much of a page as a line of words, a bar and a button need. */
class Stub {
  /** @type {any[]} */ children = [];
  /** @type {Record<string, any>} */ attributes = {};
  /** @type {Record<string, () => void>} */ calls = {};
  hidden = false;
  text = "";
  get textContent() {
    return this.text;
  }
  set textContent(text) {
    this.text = text;
  }
  /** @param {any[]} given */
  append(...given) {
    for (const one of given) typeof one === "string" ? (this.text += one) : this.children.push(one);
  }
  /** @param {string} name @param {string} value */
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  getAttribute = (/** @type {string} */ name) => this.attributes[name] ?? null;
  removeAttribute = (/** @type {string} */ name) => delete this.attributes[name];
  addEventListener = (/** @type {string} */ name, /** @type {() => void} */ call) => (this.calls[name] = call);
  getRootNode = () => ({ activeElement: null });
  contains = () => false;
}

/** @type {{kind: string, keep: (answer: any) => void, fail: (error: Error) => void, tell: (progress: any) => void}[]} */
let asked = [];
/** @type {boolean[]} */
let busy = [];
/** @type {any} */
let line;
/** @type {any} */
let problem;
/** @type {any} */
let note;
/** @type {ReturnType<typeof waiting>} */
let wait;

beforeEach(() => {
  /** @type {any} */ (globalThis).document = { createElement: () => new Stub() };
  [asked, busy] = [[], []];
  wait = waiting((kind, args, tell) => new Promise((keep, fail) => asked.push({ kind, keep, fail, tell: tell ?? (() => {}) })), (is) => busy.push(is));
  [line, problem, note] = /** @type {any} */ (wait.root).children;
});
const words = () => line.children[0].textContent;

test("how far it is, where the end is known", () => {
  assert.equal(howFar({ what: "scores", done: 3, total: 8 }), "scores: 3 of 8");
  assert.equal(howFar({ what: "scores", done: 3, total: 0 }), "scores");
});

test("one question at a time, its progress shown, its answer given", async () => {
  const first = wait.run("asking", "a", {});
  assert.equal(words(), "asking");
  assert.ok(wait.busy() && !line.hidden);
  assert.equal(await wait.run("asking", "b", {}), undefined);
  assert.deepEqual(asked.map((one) => one.kind), ["a"]);
  asked[0].tell({ what: "scores", done: 3, total: 8 });
  assert.equal(words(), "scores: 3 of 8");
  assert.deepEqual([line.children[1].value, line.children[1].max], [3, 8]);
  asked[0].keep(7);
  assert.equal(await first, 7);
  assert.ok(!wait.busy() && line.hidden);
  assert.deepEqual(busy, [true, false]);
});

test("a reader who gives up is free at once; what comes later is thrown away", async () => {
  const first = wait.run("asking", "a", {});
  line.children[2].calls.click();
  assert.equal(await first, undefined);
  assert.match(note.textContent, /thrown away.*interrupt the kernel/);
  const second = wait.run("asking again", "b", {});
  asked[0].tell({ what: "late", done: 1, total: 2 });
  asked[0].keep("late");
  assert.equal(words(), "asking again");
  assert.equal(note.textContent, "");
  asked[1].keep("new");
  assert.equal(await second, "new");
});

test("what fails is said, also after giving up in vain, and the next question is free", async () => {
  const first = wait.run("asking", "a", {});
  asked[0].fail(new Error("CorpusError: the prompt is empty"));
  assert.equal(await first, undefined);
  assert.equal(problem.textContent, "CorpusError: the prompt is empty");
  assert.ok(!problem.hidden && !wait.busy());
  const second = wait.run("asking", "a", {});
  assert.ok(problem.hidden, "an old complaint is gone when one asks anew");
  line.children[2].calls.click();
  asked[1].fail(new Error("late"));
  assert.equal(await second, undefined);
  await new Promise((keep) => setTimeout(keep));
  assert.ok(problem.hidden);
});
