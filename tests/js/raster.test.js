import assert from "node:assert/strict";
import { test } from "node:test";

import { computeLayout } from "../../analysis/canvas/js/layout.js";
import { paintCells, rasterOf, strongestIn } from "../../analysis/canvas/js/raster.js";
import { LAYERS, NEURONS, makeFrame, makeStore } from "./small_run.js";

const SIZE = { width: 900, dpr: 1, n_layers: LAYERS, n_neurons: NEURONS, lanes: 0 };
const ascending = () => Uint8Array.from({ length: LAYERS * NEURONS }, (_, index) => 100 + index);
const storeWith = (...values) =>
  makeStore(values.map((_, index) => makeFrame(index)), { values: values.map((one, index) => ({ index, values: [one] })) });

function withGrid(grid) {
  const layout = computeLayout(SIZE);
  return { ...layout, map: { ...layout.map, ...grid } };
}

function surfaceOf({ map }) {
  const drawn = [];
  return {
    drawn, pixels: new Uint32Array(map.columns * map.imageRows), image: "image",
    context: { putImageData: (image) => drawn.push(image) },
  };
}

test("values are laid out in the order of their layer, column by column", () => {
  const store = storeWith(ascending());
  const layout = withGrid({ subRows: 2, columns: 4, group: 1 });
  const [plane] = rasterOf(store, layout, store.frames[0]);
  assert.deepEqual([...plane.slice(0, 8)], [100, 102, 104, 106, 101, 103, 105, 128]);
  assert.deepEqual([...plane.slice(8, 16)], [113, 111, 109, 107, 112, 110, 108, 128]);
});

test("a shared pixel shows what changed most, in either direction", () => {
  const values = new Uint8Array(21).fill(128);
  values.set([128, 120, 130, 128, 200, 20, 128]);
  const store = storeWith(values);
  const layout = withGrid({ subRows: 1, columns: 3, group: 3 });
  const [plane] = rasterOf(store, layout, store.frames[0]);
  assert.deepEqual([...plane.slice(0, 3)], [120, 20, 128]);
  assert.equal(strongestIn(store, layout, store.frames[0], 3), 5);
  assert.equal(strongestIn(store, layout, store.frames[0], 6), 6);
});

test("a raster is made once per snapshot and layout, and only the latest are kept", () => {
  const store = storeWith(...Array.from({ length: 14 }, ascending));
  const layout = withGrid({ subRows: 1, columns: 7, group: 1 });
  const first = rasterOf(store, layout, store.frames[0]);
  assert.equal(rasterOf(store, layout, store.frames[0]), first);
  assert.notEqual(rasterOf(store, { ...layout }, store.frames[0]), first);
  for (const frame of store.frames.slice(1)) rasterOf(store, layout, frame);
  assert.equal(store.rasters.length, 12);
  assert.equal(store.frames[0].raster, null);
});

test("between two snapshots a cell is painted in between, the last layer on top", () => {
  const layout = withGrid({ subRows: 1, columns: 7, group: 1, imageRows: LAYERS * 2 - 1 });
  const colors = Uint32Array.from({ length: 256 }, (_, byte) => byte);
  const palette = { tables: [null], colors };
  const from = [new Uint8Array(21).fill(100)];
  const to = [new Uint8Array(21).fill(200)];
  to[0][20] = 0;
  const surface = surfaceOf(layout);
  paintCells(surface, layout, palette, from, to, 0.25);
  assert.equal(surface.pixels[0], 125);
  assert.equal(surface.pixels[6], 75);                        // the last neuron of the last layer
  assert.equal(surface.pixels[7], 0);                         // the gap below it
  paintCells(surface, layout, palette, from, to, 0);
  assert.equal(surface.pixels[0], 100);
  assert.deepEqual(surface.drawn, ["image", "image"]);
});

test("concepts blend by adding what each does to the neutral cell, within bounds", () => {
  const layout = withGrid({ subRows: 1, columns: 7, group: 1, imageRows: LAYERS * 2 - 1 });
  const table = (offset) => Int16Array.from({ length: 768 }, (_, i) => (i < 3 ? 0 : offset[i % 3]));
  const palette = { tables: [table([10, 0, -50]), table([5, 300, 0])], cell: [1, 2, 40] };
  const planes = [new Uint8Array(21), new Uint8Array(21)];
  planes[0][14] = 9;
  planes[1][14] = 9;
  const surface = surfaceOf(layout);
  paintCells(surface, layout, palette, planes, planes, 0);
  assert.equal(surface.pixels[0], 0xff00ff10);
  assert.equal(surface.pixels[1], 0xff280201);
});
