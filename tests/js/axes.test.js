import assert from "node:assert/strict";
import { test } from "node:test";

import {
  nearestFrame, niceCeil, niceStep, niceTicks, padRange, playheadX, tickText, timeScale,
} from "../../analysis/canvas/js/axes.js";
import { makeFrame, makeStore } from "./small_run.js";

const RECT = { x: 100, y: 0, w: 500, h: 50 };
const run = (count) => makeStore(Array.from({ length: count }, (_, index) => makeFrame(index))).frames;

test("ticks are round numbers within the range", () => {
  assert.deepEqual(niceTicks(0, 1, 2).map((tick) => tick + 0), [0, 0.5, 1]);
  assert.deepEqual(niceTicks(3.1, 3.9, 4).map((tick) => tick.toFixed(1)), ["3.2", "3.4", "3.6", "3.8"]);
  assert.deepEqual(niceTicks(-2, 2, 2).map((tick) => tick + 0), [-2, 0, 2]);
});

test("steps and ends of axes are round and never too small", () => {
  for (const span of [0.0031, 0.7, 1, 9.99, 10, 123, 99_000]) {
    assert.ok(niceStep(span, 3) * 3 >= span * 0.99);
    const end = niceCeil(span);
    assert.ok(end >= span * 0.999 && end <= span * 2.01, `${span}: ${end}`);
  }
  assert.equal(niceCeil(0), 1);
  assert.equal(niceCeil(NaN), 1);
});

test("a range is widened, and never so narrow that noise would fill it", () => {
  assert.deepEqual(padRange([0, 10], 1, 0.1), [-1, 11]);
  assert.deepEqual(padRange([5, 5], 2, 0), [4, 6]);
});

test("numbers at ticks have as many decimals as their distance needs, and a real minus", () => {
  assert.deepEqual([tickText(0.5, 0.5), tickText(0.25, 0.25), tickText(-2, 1), tickText(3, 100)],
    ["0.5", "0.25", "\u22122", "3"]);
});

test("steps are in proportion, and the base is set apart on the left", () => {
  const frames = run(4);
  const scale = timeScale(RECT, frames, 10);
  assert.equal(scale.of(frames[0]), 100);
  assert.ok(scale.gap > 0);
  assert.equal(scale.of(frames[1]), 100 + scale.gap);
  assert.equal(scale.ofStep(10), 600);
  assert.equal(scale.ofStep(5), (scale.ofStep(0) + 600) / 2);
});

test("a run without a base has no gap, and one longer than planned has room", () => {
  const scale = timeScale(RECT, run(16).slice(1), 10);
  assert.equal(scale.gap, 0);
  assert.equal(scale.last, 14);
});

test("the playhead glides between snapshots, and a point finds the nearest one", () => {
  const frames = run(6);
  const scale = timeScale(RECT, frames, 4);
  assert.equal(playheadX(scale, frames, 3.5), (scale.ofStep(2) + scale.ofStep(3)) / 2);
  assert.equal(nearestFrame(scale, frames, scale.ofStep(2) + 3), 3);
  assert.equal(nearestFrame(scale, frames, 0), 0);
  assert.equal(nearestFrame(scale, frames, 1e4), 5);
});
