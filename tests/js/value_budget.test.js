import assert from "node:assert/strict";
import { test } from "node:test";

import { isHeld, letGo, missingParts, nearestHeld, wanted } from "../../analysis/canvas/js/value_budget.js";
import { makeFrame, makeStore, makeValues } from "./small_run.js";

const LARGE = 2 ** 23;            // so many neurons a layer that the fewest snapshots are held that ever are: 8

function storeHolding(count, held) {
  const frames = Array.from({ length: count }, (_, index) => makeFrame(index));
  return makeStore(frames, { values: held.map((index) => makeValues(index)) });
}

const heldIn = ({ frames }) => frames.flatMap((frame, index) => (isHeld(frame) ? [index] : []));

test("what is missing nearest to the playhead is asked for first", () => {
  const store = storeHolding(6, [0, 1, 2]);
  assert.equal(wanted(store, 2), "3-6");
  assert.equal(wanted(storeHolding(6, [3, 4, 5]), 4), "0-3");
  assert.equal(wanted(storeHolding(3, [0, 1, 2]), 1), "");
});

test("only so much is asked for as one message has room for", () => {
  const store = storeHolding(30, []);
  store.scene.n_neurons = LARGE;
  assert.equal(wanted(store, 10), "10-11");
});

test("nothing far from the playhead is asked for", () => {
  const store = storeHolding(30, [7, 8, 9, 10, 11, 12, 13]);
  store.scene.n_neurons = LARGE;
  assert.equal(wanted(store, 10), "");
});

test("what lies farthest from the playhead is let go", () => {
  const store = storeHolding(12, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  store.rasters = [...store.frames];
  store.scene.n_neurons = LARGE;
  letGo(store, 3);
  assert.deepEqual(heldIn(store), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal(store.held, 8);
  assert.equal(store.rasters.length, 8);
});

test("the nearest snapshot that is held stands in", () => {
  const store = storeHolding(9, [2, 7]);
  assert.deepEqual([0, 3, 5, 8].map((index) => nearestHeld(store, index)?.index), [2, 2, 7, 7]);
  assert.equal(nearestHeld(storeHolding(3, []), 1), null);
});

test("the server is told only of what is missing", () => {
  assert.equal(missingParts({ ...storeHolding(4, [0, 1]), number: 7 }, 0), "run#1|capitals#7||2-4");
  assert.equal(missingParts(storeHolding(2, [0, 1]), 0), "");
});

test("a browser that missed a message says what it holds", () => {
  assert.equal(missingParts({ ...storeHolding(2, [0, 1]), number: 7, joined: false }, 0), "run#1|capitals#7|2,0|");
});
