// The map: every neuron a cell, and the scars of the edit.
// Draws into given 2d contexts from snapshots, layout and palette; knows nothing of the page.

import { contextOf } from "./dom.js";
import { layerTop, layerY } from "./layout.js";
import { css } from "./palette.js";
import { around, mix } from "./snapshots.js";
import { write, writeHeading } from "./strokes.js";

/** @import { Context, DrawStill, LayerPanel, Layout, OpenStore, Palette, Scars, Surface } from "./types" */

/**
 * What the edit cut, drawn once per size and theme.
 * @type {(layout: Layout, palette: Palette, store: OpenStore) => Scars}
 */
export function createScars(layout, palette, store) {
  const { map, dpr } = layout;
  const margin = scarLine(dpr);     // the outline of a scar at the edge lies outside the map
  const [hatch, outline] = [0, 1].map(() => {
    const layer = document.createElement("canvas");
    layer.width = Math.round(map.w * dpr) + 2 * margin;
    layer.height = Math.round(map.h * dpr) + 2 * margin;
    contextOf(layer).translate(margin, margin);
    return layer;
  });
  drawScars(contextOf(hatch), contextOf(outline), layout, palette, store);
  return { hatch, outline, margin: margin / dpr };
}

/** @type {(dpr: number) => number} */
const scarLine = (dpr) => Math.max(1, Math.round(dpr * 0.75));

/**
 * @type {(
 *   context: Context, surface: Surface, scars: Scars, layout: Layout, store: OpenStore, playhead: number
 * ) => void}
 */
export function drawMap(context, surface, scars, layout, store, playhead) {
  const { map } = layout;
  const { margin } = scars;
  /** @type {(canvas: HTMLCanvasElement) => void} */
  const overlay = (canvas) => context.drawImage(
    canvas, map.x - margin, map.y - margin, map.w + 2 * margin, map.h + 2 * margin);
  context.imageSmoothingEnabled = false;
  context.drawImage(surface.canvas, map.x, map.y, map.w, map.h);
  // Before the edit only the outline shows where it will cut.
  const { from, to, t } = around(store.frames, playhead);
  const cut = mix(from.phase === "base" ? 0 : 1, to.phase === "base" ? 0 : 1, t);
  if (cut > 0) {
    context.globalAlpha = cut;
    overlay(scars.hatch);
  }
  context.globalAlpha = 0.45 + 0.55 * cut;
  overlay(scars.outline);
  context.globalAlpha = 1;
}

/**
 * Hatched inside, so that what grows back in a scar still shows through; outlined around.
 * @type {(hatch: Context, outline: Context, layout: Layout, palette: Palette, store: OpenStore) => void}
 */
function drawScars(hatch, outline, layout, palette, store) {
  const { map, dpr, n_layers, n_neurons } = layout;
  hatch.fillStyle = hatchPattern(hatch, palette, dpr);
  outline.fillStyle = palette.ink(0.8);
  const line = scarLine(dpr);
  const places = Math.ceil(n_neurons / map.group);
  const cutPlaces = new Set(Array.from(store.pruned, (cell) =>
    Math.floor(cell / n_neurons) * places + Math.floor((cell % n_neurons) / map.group)));
  /** @type {(layer: number, place: number) => boolean} */
  const scarred = (layer, place) => place >= 0 && place < places && cutPlaces.has(layer * places + place);
  for (const cell of store.pruned) {
    const layer = Math.floor(cell / n_neurons);
    const place = Math.floor((cell % n_neurons) / map.group);
    const subRow = place % map.subRows;
    const x = Math.floor(place / map.subRows) * map.cellW;
    const y = ((n_layers - 1 - layer) * (map.subRows + 1) + subRow) * map.cellH;
    hatch.fillRect(x, y, map.cellW, map.cellH);
    const left = scarred(layer, place - map.subRows);
    const right = scarred(layer, place + map.subRows);
    const above = subRow > 0 && scarred(layer, place - 1);
    const below = subRow < map.subRows - 1 && scarred(layer, place + 1);
    // Outside the cell: inside it, a cell of two pixels would be nothing but outline.
    if (!left) outline.fillRect(x - line, y - line, line, map.cellH + 2 * line);
    if (!right) outline.fillRect(x + map.cellW, y - line, line, map.cellH + 2 * line);
    if (!above) outline.fillRect(x, y - line, map.cellW, line);
    if (!below) outline.fillRect(x, y + map.cellH, map.cellW, line);
  }
}

/** @type {(context: Context, palette: Palette, dpr: number) => CanvasPattern | string} */
function hatchPattern(context, palette, dpr) {
  const size = Math.round(4 * dpr);
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const draw = contextOf(tile);
  draw.strokeStyle = palette.ink(0.7);
  draw.lineWidth = Math.max(1, dpr);
  draw.beginPath();
  for (const shift of [-size, 0, size]) {
    draw.moveTo(shift, size);
    draw.lineTo(shift + size, 0);
  }
  draw.stroke();
  return context.createPattern(tile, "repeat") ?? palette.ink(0.35);
}

/**
 * Axis of the map: bands' ground, layer numbers on the left, what x means below.
 * @type {DrawStill}
 */
export function drawMapStill(context, layout, palette, store) {
  const { map, n_layers } = layout;
  context.fillStyle = css(palette.cell);
  for (let layer = 0; layer < n_layers; layer++) {
    context.fillRect(map.x, layerTop(map, n_layers, layer), map.w, map.row);
  }
  const title = map.group === 1 ? "Every neuron a cell" : `${map.group} neurons a pixel`;
  const shows = store.scene.signed ? "the one that changed most" : "the most salient one";
  const note = map.group === 1 ? store.scene.unit : `shows ${shows}; ${store.scene.unit}`;
  writeHeading(context, palette, title, note, map.x, map.y - 14, map.w);
  drawLayerNumbers(context, layout, palette, map);
  const below = map.y + map.h + 13;
  const meaning = store.plainIndex ? "neurons, by number" : "strongest before the edit on the left";
  write(context, palette, meaning, map.x, below, { alpha: 0.6 });
}

/** @type {(context: Context, layout: Layout, palette: Palette, panel: LayerPanel) => void} */
export function drawLayerNumbers(context, layout, palette, panel) {
  const last = layout.n_layers - 1;
  const every = [1, 2, 5, 10, 20, 50].find((step) => step * panel.pitch >= 34) ?? 100;
  for (let layer = 0; layer <= last; layer++) {
    const end = layer === 0 || layer === last;
    const crowded = (last - layer) * panel.pitch < 15 || layer * panel.pitch < 15;
    if (!end && (layer % every || crowded)) continue;
    const text = layer === 0 ? "layer 0 (first)" : layer === last ? `layer ${last} (last)` : `${layer}`;
    write(context, palette, text, panel.x - 8, layerY(panel, layout.n_layers, layer), { align: "right" });
  }
}
