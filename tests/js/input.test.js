import assert from "node:assert/strict";
import { test } from "node:test";

import { timeScale } from "../../analysis/canvas/js/axes.js";
import { pick } from "../../analysis/canvas/js/input.js";
import { cellCentre, computeLayout, layerY } from "../../analysis/canvas/js/layout.js";
import { createStore } from "../../analysis/canvas/js/store.js";
import { LAYERS, NEURONS, makeFrame, makeMarks, makeStore } from "./small_run.js";

const layout = computeLayout({ width: 1000, dpr: 1, n_layers: LAYERS, n_neurons: NEURONS, lanes: 2 });

function makeView(...changes) {
  const frames = [0, 1, 2, 3].map((index) => makeFrame(index, changes[index]));
  return { layout, store: makeStore(frames), playhead: 0 };
}

test("a point on the map is a cell, which the tooltip names", () => {
  const view = makeView();
  const { x, y } = cellCentre(layout, 12);
  const target = pick(view, x, y);
  assert.equal(target.cell, 12);
  assert.equal(target.lines()[0], "L1.N1");
});

test("a mark is hit before the cell beside it", () => {
  const view = makeView({ recruits: makeMarks([0]) });
  const { x, y } = cellCentre(layout, 0);
  const edge = layout.map.cellW / 2 + 2;
  assert.equal(pick(view, x + edge, y).cell, edge < 5 ? 0 : pick(makeView(), x + edge, y).cell);
  assert.equal(pick(view, x + 1, y + 1).cell, 0);
});

test("points on flow and bars are layers", () => {
  const view = makeView({ layer_change: [[0, 3, 0]], flow: [[[1, 0, 0.5]]] });
  for (const [panel, said] of [[layout.flow, /gave 50\.00%/], [layout.bars, /\+3/]]) {
    const target = pick(view, panel.x + 3, layerY(panel, LAYERS, 1));
    assert.equal(target.layer, 1);
    assert.match(target.lines()[1], said);
  }
});

test("a point on a panel along time is the nearest snapshot", () => {
  const view = makeView();
  const [panel] = layout.times;
  const scale = timeScale(panel, view.store.frames, view.store.scene.total_steps);
  const target = pick(view, scale.ofStep(2) + 2, panel.y + 4);
  assert.deepEqual([target.index, target.lane, target.lines()[0]], [3, undefined, "step 2"]);
});

test("a point on a lane is a snapshot of its neuron, which can be chosen", () => {
  const view = makeView();
  const target = pick(view, layout.lanes.x + 1, layout.lanes.y + layout.lanes.h - 5);
  assert.deepEqual([target.index, target.lane, target.chosen], [0, 1, 13]);
});

test("beside all panels, and before anything has arrived, there is nothing", () => {
  const view = makeView();
  assert.equal(pick(view, 2, 2), null);
  const { x, y } = cellCentre(layout, 0);
  assert.equal(pick({ ...view, store: createStore() }, x, y), null);
  assert.equal(pick({ ...view, layout: null }, x, y), null);
});
