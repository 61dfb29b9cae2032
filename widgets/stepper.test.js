// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { stepTo, typedPlace } from "./stepper.js";

test("steps stay within the batch", () => {
  assert.deepEqual(["first", "previous", "next", "last"].map((step) => stepTo(step, 1, 3)), [0, 0, 2, 2]);
  assert.deepEqual([stepTo("previous", 0, 3), stepTo("next", 2, 3), stepTo("next", 0, 1)], [0, 2, 0]);
});

test("a place that is typed counts from 1, and what is none is refused", () => {
  assert.deepEqual(["1", "3", " 2 "].map((typed) => typedPlace(typed, 3)), [0, 2, 1]);
  assert.deepEqual(["0", "4", "1.5", "", "x", "-1"].map((typed) => typedPlace(typed, 3)), [null, null, null, null, null, null]);
});
