import assert from "node:assert/strict";
import { test } from "node:test";

import { drawFlow, ribbonsAt } from "../../analysis/canvas/js/flow.js";
import { laneAt, stretchesOf } from "../../analysis/canvas/js/lanes.js";
import { computeLayout } from "../../analysis/canvas/js/layout.js";
import { fitText, polyline, writeApart } from "../../analysis/canvas/js/strokes.js";
import { valueAtStep } from "../../analysis/canvas/js/timeline.js";
import { LAYERS, NEURONS, makeFrame, makeStore } from "./small_run.js";

// A 2d context that writes down its calls; a letter is 6 pixels wide.
function recorder() {
  const calls = [];
  return new Proxy({ calls }, {
    get(target, name) {
      if (name in target) return target[name];
      if (name === "measureText") return (text) => ({ width: 6 * text.length });
      return (...given) => {
        calls.push([name, ...given]);
        return { addColorStop() {} };
      };
    },
    set: () => true,
  });
}

const palette = { page: [255, 255, 255], lost: [0, 0, 0], hues: [[1, 2, 3]], ink: () => "ink", font: "sans-serif" };
const calledOf = ({ calls }, name) => calls.filter(([called]) => called === name);

test("ribbons of two snapshots are mixed, in the order of the layers they leave", () => {
  const [from, to] = [[[2, 0, 0.4], [0, 1, 0.2]], [[0, 1, 0.4], [1, 2, 0.1]]].map((ribbons) => ({ net: null, flow: [ribbons] }));
  const mixed = ribbonsAt(from, to, 0, 0.5).map(({ start, end, share }) => [start, end, Number(share.toFixed(6))]);
  assert.deepEqual(mixed, [[0, 1, 0.3], [1, 2, 0.05], [2, 0, 0.2]]);
});

test("at rest on a snapshot only its own ribbons are there", () => {
  const [from, to] = [[[0, 1, 0.2]], [[1, 2, 0.1]]].map((ribbons) => ({ net: null, flow: [ribbons] }));
  assert.deepEqual(ribbonsAt(from, to, 0, 0), [{ start: 0, end: 1, share: 0.2 }]);
  assert.deepEqual(ribbonsAt({ ...from, net: [[]] }, to, 0, 0), []);
});

test("ribbons stay within their panel, as thick as their share, and do not overlap where they start", () => {
  const flow = [[[0, 2, 0.1], [0, 1, 0.3], [2, 2, 0.2], [1, 0, 0.1]]];
  const store = makeStore([makeFrame(0, { flow })]);
  const layout = computeLayout({ width: 1000, dpr: 1, n_layers: LAYERS, n_neurons: NEURONS, lanes: 0 });
  const context = recorder();
  drawFlow(context, layout, palette, store, 0);
  const tops = calledOf(context, "moveTo").map(([, , y]) => y);
  const heights = calledOf(context, "lineTo").map(([, , y], i) => y - calledOf(context, "bezierCurveTo")[2 * i][6]);
  assert.equal(tops.length, 4);
  const total = heights.reduce((sum, height) => sum + height, 0);
  [0.3, 0.1, 0.1, 0.2].forEach((share, i) => assert.ok(Math.abs(heights[i] / total - share / 0.7) < 1e-9, `${i}`));
  tops.forEach((top, i) => assert.ok(top >= layout.flow.y - 1e-9 && top + heights[i] <= layout.flow.y + layout.flow.h + 1e-9));
  assert.ok(Math.abs(tops[0] - (tops[1] + heights[1])) < 1e-9);       // the two that leave layer 0
  assert.deepEqual(calledOf(context, "fillText").map(([, text]) => text), ["70% moved"]);
});

test("stretches are as long as a set of words stays the same; what was not there before is fresh", () => {
  const told = [["a", "b"], ["b", "a"], ["a", "c"], ["c"]];
  const { frames } = makeStore(told.map((words, i) => makeFrame(i, { words: [words, []] })));
  const found = stretchesOf(frames, 0).map(({ first, last, fresh }) => [first, last, [...fresh]]);
  assert.deepEqual(found, [[0, 1, []], [2, 2, ["c"]], [3, 3, []]]);
});

test("a point belongs to a lane, or to none", () => {
  const layout = computeLayout({ width: 1000, dpr: 1, n_layers: LAYERS, n_neurons: NEURONS, lanes: 2 });
  const { y, h } = layout.lanes;
  assert.deepEqual([y - 1, y + 1, y + h - 1, y + h + 1].map((at) => laneAt(layout, at)), [null, 0, 1, null]);
});

test("a value at a step lies between two snapshots, never between the base and the edit", () => {
  const { frames } = makeStore([0.9, 0.1, 0.2, 0.6].map((held_out, i) => makeFrame(i, { held_out })));
  assert.equal(valueAtStep(frames, "held_out", 0), 0.1);
  assert.ok(Math.abs(valueAtStep(frames, "held_out", 1.5) - 0.4) < 1e-12);
  assert.equal(valueAtStep(frames, "held_out", 7), null);
});

test("a text is cut where it has no room", () => {
  const context = recorder();
  assert.equal(fitText(context, "short", 30), "short");
  assert.equal(fitText(context, "a long text", 36), "a lon\u2026");
  assert.equal(fitText(context, "a long text", 42), "a long\u2026");
  assert.equal(fitText(context, "no room", 5), "");
});

test("a line has a gap where nothing was measured", () => {
  const context = recorder();
  polyline(context, [[0, 1], [1, 2], [2, null], [3, 4], [4, 5]], "ink", 1);
  const path = context.calls.filter(([name]) => name === "moveTo" || name === "lineTo");
  assert.deepEqual(path, [["moveTo", 0, 1], ["lineTo", 1, 2], ["moveTo", 3, 4], ["lineTo", 4, 5]]);
});

test("labels beside the playhead keep apart and within the panel", () => {
  const context = recorder();
  const labels = [{ text: "b", y: 98 }, { text: "a", y: 97 }, { text: "c", y: 20 }];
  writeApart(context, palette, labels, 50, { x: 0, y: 0, w: 400, h: 100 });
  const drawn = calledOf(context, "fillText").map(([, text, , y]) => [text, y]);
  assert.deepEqual(drawn.map(([text]) => text), ["c", "a", "b"]);
  assert.ok(drawn[2][1] - drawn[1][1] >= 15);
  assert.ok(drawn[2][1] <= 100);
});
