// @ts-check
// Where a point may go and what a slider says: what needs no page. tests/browser/ drives the rest in Chromium.

import assert from "node:assert/strict";
import { test } from "node:test";
import { placed, sliderScale } from "./playground.js";

const AXIS = { label: "x", low: 0, high: 10 };
const PLANE = /** @type {const} */ ({ x: AXIS, y: { ...AXIS, low: -1, high: 1 }, move: "both", sliders: [], label: "" });

test("a point stays inside of the axes", () => {
  assert.deepEqual(placed({ ...PLANE, sliders: [] }, [5, 0], [12, -3]), [10, -1]);
});

test("a point moves only along what is free", () => {
  assert.deepEqual(placed({ ...PLANE, sliders: [], move: "y" }, [5, 0], [7, 0.5]), [5, 0.5]);
  assert.deepEqual(placed({ ...PLANE, sliders: [], move: "x" }, [5, 0], [7, 0.5]), [7, 0]);
  assert.deepEqual(placed({ ...PLANE, sliders: [], move: "none" }, [5, 0], [7, 0.5]), [5, 0]);
});

test("a slider goes there and back, by powers where it is logarithmic", () => {
  const scale = sliderScale({ name: "damping", label: "", low: 1e-4, high: 1, isLog: true });
  assert.equal(scale.value(0.5), 0.01);
  assert.equal(scale.value(scale.share(0.001)), 0.001);
  assert.equal(sliderScale({ name: "k", label: "", low: 1, high: 9, isLog: false }).value(0.25), 3);
});
