// The raster of the map: from a snapshot's bytes to pixels, on the grid of device pixels.
// Where a pixel stands for several neurons it shows the one that changed most (in level mode the most salient one), so
// that nothing that stands out is averaged away; the legend says so. Knows bytes, layout and palette; draws no marks.

import { contextOf } from "./dom.js";
import { NO_CHANGE } from "./message.js";
import { byteAt } from "./snapshots.js";

/** @import { Frame, HeldFrame, Layout, OpenStore, Palette, Surface } from "./types" */

const KEPT_RASTERS = 12;          // snapshots around the playhead; each is as large as the map has cells

/** @type {(layout: Layout) => Surface} */
export function createSurface(layout) {
  const { map } = layout;
  const canvas = document.createElement("canvas");
  canvas.width = map.columns;
  canvas.height = map.imageRows;
  const context = contextOf(canvas);
  const image = context.createImageData(map.columns, map.imageRows);
  return { canvas, context, image, pixels: new Uint32Array(image.data.buffer) };
}

/**
 * Bytes in the order in which they are painted: layer after layer, row after row. Made once per snapshot and layout.
 * @type {(store: OpenStore, layout: Layout, frame: HeldFrame) => Uint8Array[]}
 */
export function rasterOf(store, layout, frame) {
  if (frame.raster?.layout === layout) return frame.raster.planes;
  const planes = frame.values.map((values) => arrange(store, layout, values));
  frame.raster = { layout, planes };
  store.rasters.push(frame);
  if (store.rasters.length > KEPT_RASTERS) {
    const oldest = store.rasters.shift();
    if (oldest) oldest.raster = null;
  }
  return planes;
}

/** @type {(store: OpenStore, layout: Layout, values: Uint8Array) => Uint8Array} */
function arrange({ order, scene: { signed } }, { map, n_layers, n_neurons }, values) {
  const { subRows, columns, group } = map;
  const plane = new Uint8Array(n_layers * subRows * columns);
  if (signed) plane.fill(NO_CHANGE);
  for (let layer = 0; layer < n_layers; layer++) {
    const first = layer * n_neurons;
    const ground = layer * subRows * columns;
    for (let rank = 0, place = 0; rank < n_neurons; place++) {
      let shown = values[first + order[first + rank++]];
      for (let shared = 1; shared < group && rank < n_neurons; shared++) {
        const value = values[first + order[first + rank++]];
        if (signed ? Math.abs(value - NO_CHANGE) > Math.abs(shown - NO_CHANGE) : value > shown) shown = value;
      }
      plane[ground + (place % subRows) * columns + ((place / subRows) | 0)] = shown;
    }
  }
  return plane;
}

/**
 * The hot loop: every cell times the concepts, sixty times a second. Flat arrays, nothing allocated.
 * @type {(
 *   surface: Surface, layout: Layout, palette: Palette, from: Uint8Array[], to: Uint8Array[], t: number
 * ) => void}
 */
export function paintCells(surface, layout, palette, from, to, t) {
  const { map: { subRows, columns }, n_layers } = layout;
  const share = Math.round(t * 256);
  const block = subRows * columns;
  const { pixels } = surface;
  const single = palette.tables.length === 1;
  for (let layer = 0; layer < n_layers; layer++) {
    const ground = layer * block;
    const pixel = (n_layers - 1 - layer) * (subRows + 1) * columns;
    if (single) paintOne(pixels, pixel, from[0], to[0], ground, block, share, palette.colors);
    else paintBlend(pixels, pixel, from, to, ground, block, share, palette);
  }
  surface.context.putImageData(surface.image, 0, 0);
}

/**
 * @type {(
 *   pixels: Uint32Array, pixel: number, from: Uint8Array, to: Uint8Array, ground: number, block: number, share:
 *   number, colors: Uint32Array
 * ) => void}
 */
function paintOne(pixels, pixel, from, to, ground, block, share, colors) {
  if (share === 0 || from === to) {
    for (let i = 0; i < block; i++) pixels[pixel + i] = colors[from[ground + i]];
    return;
  }
  for (let i = 0; i < block; i++) {
    const start = from[ground + i];
    pixels[pixel + i] = colors[start + (((to[ground + i] - start) * share) >> 8)];
  }
}

/**
 * Concepts blend by adding what each of them does to the neutral cell.
 * @type {(
 *   pixels: Uint32Array, pixel: number, from: Uint8Array[], to: Uint8Array[], ground: number, block: number, share:
 *   number, palette: Palette
 * ) => void}
 */
function paintBlend(pixels, pixel, from, to, ground, block, share, { tables, cell }) {
  const [red0, green0, blue0] = cell;
  const count = tables.length;
  for (let i = 0; i < block; i++) {
    let red = red0, green = green0, blue = blue0;
    for (let c = 0; c < count; c++) {
      const start = from[c][ground + i];
      const entry = (start + (((to[c][ground + i] - start) * share) >> 8)) * 3;
      const table = tables[c];
      red += table[entry];
      green += table[entry + 1];
      blue += table[entry + 2];
    }
    red = red < 0 ? 0 : red > 255 ? 255 : red;
    green = green < 0 ? 0 : green > 255 ? 255 : green;
    blue = blue < 0 ? 0 : blue > 255 ? 255 : blue;
    pixels[pixel + i] = (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
  }
}

/**
 * Of the neurons that share a pixel, the one that the pixel shows.
 * @type {(store: OpenStore, layout: Layout, frame: Frame, cell: number) => number}
 */
export function strongestIn(store, layout, frame, cell) {
  const { group } = layout.map;
  const { n_neurons, signed } = store.scene;
  if (group === 1 || !frame.values) return cell;
  const end = Math.min(cell + group, cell - (cell % n_neurons) + n_neurons);
  let [best, most] = [cell, -1];
  for (let one = cell; one < end; one++) {
    const size = Math.max(...frame.values.map((values) => {
      const byte = byteAt(store, values, one);
      return signed ? Math.abs(byte - NO_CHANGE) : byte;
    }));
    if (size > most) [best, most] = [one, size];
  }
  return best;
}
