// @ts-check
// Columns, thirds and choices of layers: what needs no page. tests/browser/ drives the rest in Chromium.

import assert from "node:assert/strict";
import { test } from "node:test";
import { layerColumns, layersToggled, layerThirds } from "./layer_profile.js";

/** @param {string} name @param {number} block */
const layer = (name, block) => ({ name, block, role: "mlp", kind: "Linear", effect: 1 });
const FOUR = [0, 1, 2, 3].flatMap((block) => [layer(`h.${block}.fc`, block), layer(`h.${block}.proj`, block)]);

test("a block is one column, a layer outside of the blocks its own", () => {
  const columns = layerColumns([layer("head", -1), ...FOUR.toReversed()]);
  assert.deepEqual(columns.map((column) => column.label), ["0", "1", "2", "3", "head"]);
  assert.deepEqual(columns[1].names, ["h.1.proj", "h.1.fc"]);
});

test("thirds share out the blocks, and layers where there are none", () => {
  const { bottom, middle, top } = layerThirds([...FOUR, layer("head", -1)]);
  assert.deepEqual([bottom.title, middle.title, top.title], ["block 0", "block 1 to 2", "block 3"]);
  assert.deepEqual(top.names, ["h.3.fc", "h.3.proj"]);
  const flat = layerThirds(["a", "b", "c"].map((name) => layer(name, -1)));
  assert.deepEqual([flat.bottom.names, flat.middle.names, flat.top.names], [["a"], ["b"], ["c"]]);
  assert.deepEqual(layerThirds([]).top, { names: [], title: "none" });
  const one = layerThirds(FOUR.slice(0, 2));
  assert.equal([one.bottom, one.middle, one.top].flatMap((third) => third.names).length, 2);
});

test("switching starts from all layers, keeps the order of the network, and all is []", () => {
  const without = layersToggled(FOUR, [], ["h.0.fc"], false);
  assert.equal(without.length, 7);
  assert.deepEqual(layersToggled(FOUR, ["h.3.fc"], ["h.0.fc"], true), ["h.0.fc", "h.3.fc"]);
  assert.deepEqual(layersToggled(FOUR, without, ["h.0.fc"], true), []);
  assert.deepEqual(layersToggled(FOUR, ["h.3.fc"], ["h.3.fc"], false), []);
});
