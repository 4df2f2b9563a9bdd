import assert from "node:assert/strict";
import { test } from "node:test";

import { cellAt, cellCentre, computeLayout, inside, layerAt, layerY } from "../../analysis/canvas/js/layout.js";

const SIZES = [
  { width: 1200, dpr: 1, n_layers: 30, n_neurons: 1536, lanes: 4 },
  { width: 1201, dpr: 1.5, n_layers: 12, n_neurons: 3072, lanes: 0 },
  { width: 560, dpr: 2, n_layers: 6, n_neurons: 100, lanes: 1 },
];

test("the cell under a cell's centre is that cell", () => {
  for (const size of SIZES) {
    const layout = computeLayout(size);
    assert.equal(layout.map.group, 1);
    for (let cell = 0; cell < size.n_layers * size.n_neurons; cell++) {
      const { x, y } = cellCentre(layout, cell);
      if (cellAt(layout, x, y) !== cell) assert.fail(`cell ${cell} of ${JSON.stringify(size)}`);
    }
  }
});

test("beside the map there is no cell", () => {
  const layout = computeLayout(SIZES[0]);
  const { map } = layout;
  for (const [x, y] of [[map.x - 1, map.y + 5], [map.x + map.w, map.y + 5], [map.x + 5, map.y - 1]]) {
    assert.equal(cellAt(layout, x, y), null);
  }
});

test("places that no neuron fills belong to none", () => {
  const layout = computeLayout({ ...SIZES[0], n_layers: 2, n_neurons: 1537 });
  const { map } = layout;
  assert.ok(map.columns * map.subRows > 1537);
  assert.equal(cellAt(layout, map.x + map.w - 0.5, map.y + map.row - 0.5), null);
});

test("more neurons than pixels share them, and a pixel stands for the first of its neurons", () => {
  const layout = computeLayout({ width: 400, dpr: 1, n_layers: 80, n_neurons: 20_000, lanes: 0 });
  const { group, cellW, cellH } = layout.map;
  assert.ok(group > 1);
  assert.deepEqual([cellW, cellH], [1, 1]);
  const cell = 3 * 20_000 + 5 * group;
  const { x, y } = cellCentre(layout, cell + 1);
  assert.equal(cellAt(layout, x, y), cell);
});

test("cells are whole device pixels, and the map fills most of its place", () => {
  for (const size of SIZES) {
    const { map } = computeLayout(size);
    for (const side of [map.cellW, map.cellH]) assert.ok(Number.isInteger(side) && side >= 1);
    assert.ok(map.h > 300 && map.h < 680, `${map.h}`);
    assert.ok(map.x + map.w <= size.width);
  }
});

test("layer 0 is the lowest, and a point belongs to the layer whose band it is in", () => {
  const { map, n_layers } = computeLayout(SIZES[0]);
  assert.ok(layerY(map, n_layers, 0) > layerY(map, n_layers, 29));
  for (const layer of [0, 1, 17, 29]) assert.equal(layerAt(map, n_layers, layerY(map, n_layers, layer)), layer);
  assert.deepEqual([layerAt(map, n_layers, -100), layerAt(map, n_layers, 1e4)], [29, 0]);
});

test("a narrow page has flow and bars under the map, a wide one beside it", () => {
  const [narrow, wide] = [computeLayout(SIZES[2]), computeLayout(SIZES[0])];
  assert.equal(narrow.stacked, true);
  assert.ok(narrow.flow.y > narrow.map.y + narrow.map.h);
  assert.equal(wide.stacked, false);
  assert.equal(wide.flow.y, wide.map.y);
});

test("no panel lies over another, and all lie on the page", () => {
  for (const size of SIZES) {
    const { map, flow, bars, times, lanes, width, height } = computeLayout(size);
    const panels = [map, flow, bars, ...times, ...(lanes.count ? [lanes] : [])];
    panels.forEach((one, i) => {
      assert.ok(one.x >= 0 && one.x + one.w <= width && one.y >= 0 && one.y + one.h <= height, `panel ${i}`);
      for (const other of panels.slice(i + 1)) {
        const apart = one.x + one.w <= other.x || other.x + other.w <= one.x
          || one.y + one.h <= other.y || other.y + other.h <= one.y;
        assert.ok(apart, `panel ${i}`);
      }
    });
  }
});

test("lanes make the picture taller, each by as much", () => {
  const heights = [0, 1, 2, 3].map((lanes) => computeLayout({ ...SIZES[0], lanes }).height);
  assert.ok(heights[1] > heights[0]);
  assert.equal(heights[3] - heights[2], heights[2] - heights[1]);
});

test("a margin widens what counts as inside", () => {
  const rect = { x: 10, y: 10, w: 5, h: 5 };
  assert.deepEqual([inside(rect, 10, 14.9), inside(rect, 15, 12), inside(rect, 15, 12, 2)], [true, false, true]);
});
