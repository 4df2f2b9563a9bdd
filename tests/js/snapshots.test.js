import assert from "node:assert/strict";
import { test } from "node:test";

import { around, flowOf, frameName, mix, timeOf } from "../../analysis/canvas/js/snapshots.js";
import { makeFrame, makeStore } from "./small_run.js";

test("a playhead lies between two snapshots, and at the end on the last one", () => {
  const { frames } = makeStore([makeFrame(0), makeFrame(1), makeFrame(2)]);
  const places = [0, 0.25, 1, 1.75, 2].map((playhead) => around(frames, playhead));
  assert.deepEqual(places.map(({ from, to, t }) => [from.index, to.index, t]),
    [[0, 1, 0], [0, 1, 0.25], [1, 2, 0], [1, 2, 0.75], [2, 2, 0]]);
});

test("between a value and a gap there is a gap", () => {
  assert.deepEqual([mix(1, 3, 0.5), mix(null, 3, 0.5), mix(1, null, 0)], [2, null, null]);
});

test("moments have names, and the base lies before the edit", () => {
  const moments = [makeFrame(0), makeFrame(1), makeFrame(5)];
  assert.deepEqual(moments.map(frameName), ["before the edit", "just after the edit", "step 4"]);
  assert.deepEqual(moments.map(timeOf), [-1, 0, 4]);
});

test("the net flow is the flow where there is one", () => {
  assert.deepEqual(flowOf({ net: null, flow: [[[0, 1, 1]]] }), [[[0, 1, 1]]]);
  assert.deepEqual(flowOf({ net: [[]], flow: [[[0, 1, 1]]] }), [[]]);
});
