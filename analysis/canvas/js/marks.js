// Marks on the map: recruits, survivors, what else they carry, and the cell under the pointer.
// Draws into a given 2d context from snapshots, layout and palette; knows nothing of the page.

import { cellCentre, layerTop } from "./layout.js";
import { NO_OTHER } from "./message.js";
import { css } from "./palette.js";
import { around } from "./snapshots.js";

/** @import { Context, Frame, Layout, Marks, OpenStore, Palette, Sprite } from "./types" */

const BLOOM_SPAN = 1.5;           // snapshots a recruit's ring takes to open and vanish
const BLOOM_LEAD = 0.45;          // it opens while the crossing snapshot is still arriving
const BLOOM_RADIUS = 15;
const TRACE_SNAPSHOTS = 5;        // half-life of a recruit's halo
const RESTING_HALO = 0.3;
const SURVIVOR_RADIUS = 2.6;
const CHOSEN_RADIUS = 8;
const OTHER_RADIUS = 4.4;           // the arc of another concept, around a recruit's dot

/**
 * @type {(
 *   context: Context, layout: Layout, palette: Palette, store: OpenStore, playhead: number, calm: boolean
 * ) => void}
 */
export function drawMarks(context, layout, palette, store, playhead, calm) {
  const { from, to, t } = around(store.frames, playhead);
  store.scene.concepts.forEach((_, c) => {
    drawSurvivors(context, layout, palette, c, from.survivors[c], to.survivors[c], t);
    drawRecruits(context, layout, palette, c, from.recruits[c], to.recruits[c], t, calm);
    drawOthers(context, layout, palette, from.recruits[c], to.recruits[c], t);
  });
}

/**
 * A ring in the hue of another concept that a recruit carries, one path a hue.
 * @type {(context: Context, layout: Layout, palette: Palette, from: Marks, to: Marks, t: number) => void}
 */
function drawOthers(context, layout, palette, from, to, t) {
  const marks = t < 0.5 ? from : to;
  const places = new Set(marks.also);
  places.delete(NO_OTHER);
  for (const place of places) {
    context.beginPath();
    marks.cells.forEach((cell, i) => {
      if (marks.also[i] !== place) return;
      const { x, y } = cellCentre(layout, cell);
      context.moveTo(x + OTHER_RADIUS, y);
      context.arc(x, y, OTHER_RADIUS, 0, Math.PI * 2);
    });
    context.strokeStyle = css(palette.hueOf(place));
    context.lineWidth = 1.7;
    context.stroke();
  }
}

/**
 * @type {(context: Context, layout: Layout, palette: Palette, c: number, from: Marks, to: Marks, t: number) => void}
 */
function drawSurvivors(context, layout, palette, c, from, to, t) {
  const still = from === to;
  drawRings(context, layout, palette, c, from, (i) => still || from.stays[i] === 1, 1);
  if (still) return;
  drawRings(context, layout, palette, c, from, (i) => !from.stays[i], 1 - t);
  drawRings(context, layout, palette, c, to, (i) => to.age[i] === 0, t);
}

/**
 * @type {(
 *   context: Context, layout: Layout, palette: Palette, c: number, marks: Marks, chosen: (i: number) => boolean,
 *   alpha: number
 * ) => void}
 */
function drawRings(context, layout, palette, c, marks, chosen, alpha) {
  if (alpha <= 0) return;
  context.globalAlpha = alpha;
  context.beginPath();
  marks.cells.forEach((cell, i) => {
    if (!chosen(i)) return;
    const { x, y } = cellCentre(layout, cell);
    context.moveTo(x + SURVIVOR_RADIUS, y);
    context.arc(x, y, SURVIVOR_RADIUS, 0, Math.PI * 2);
  });
  context.strokeStyle = palette.dark ? "rgba(0,0,0,.55)" : "rgba(255,255,255,.8)";
  context.lineWidth = 2.6;
  context.stroke();
  context.strokeStyle = css(palette.ramps[c](palette.dark ? 0.9 : 0.8));
  context.lineWidth = 1.2;
  context.stroke();
  context.globalAlpha = 1;
}

/**
 * A recruit: a ring opens as it crosses the threshold, a bright dot stays, its halo fades with age.
 * @type {(
 *   context: Context, layout: Layout, palette: Palette, c: number, from: Marks, to: Marks, t: number, calm: boolean
 * ) => void}
 */
function drawRecruits(context, layout, palette, c, from, to, t, calm) {
  const { halo, dot } = palette.sprites[c];
  /** @type {(sprite: Sprite, at: { x: number, y: number }, alpha: number) => void} */
  const stamp = (sprite, { x, y }, alpha) => {
    const { radius } = sprite;
    context.globalAlpha = alpha;
    context.drawImage(sprite.canvas, x - radius, y - radius, radius * 2, radius * 2);
  };
  /** @type {(cell: number, presence: number, age: number) => void} */
  const mark = (cell, presence, age) => {
    const centre = cellCentre(layout, cell);
    const trace = RESTING_HALO + (1 - RESTING_HALO) * 0.5 ** (Math.max(0, age) / TRACE_SNAPSHOTS);
    stamp(halo, centre, presence * trace);
    stamp(dot, centre, presence);
    const bloom = (age + BLOOM_LEAD) / BLOOM_SPAN;
    if (calm || bloom <= 0 || bloom >= 1) return;
    context.globalAlpha = presence * (1 - bloom) ** 1.4;
    context.strokeStyle = css(palette.ramps[c](palette.dark ? 0.95 : 0.75));
    context.lineWidth = 2 - bloom;
    context.beginPath();
    context.arc(centre.x, centre.y, 2 + (BLOOM_RADIUS - 2) * (1 - (1 - bloom) ** 2), 0, Math.PI * 2);
    context.stroke();
  };
  const still = from === to;
  context.imageSmoothingEnabled = true;
  from.cells.forEach((cell, i) => mark(cell, still || from.stays[i] ? 1 : 1 - t, from.age[i] + t));
  if (!still) {
    const arrival = Math.max(0, (t - (1 - BLOOM_LEAD)) / BLOOM_LEAD);
    to.cells.forEach((cell, i) => {
      if (to.age[i] === 0 && arrival > 0) mark(cell, arrival, t - 1);
    });
  }
  context.globalAlpha = 1;
}

/**
 * The mark nearest to a pointer, so that a dot can be hit although its cell is two pixels wide.
 * @type {(layout: Layout, frame: Frame, x: number, y: number, reach?: number) => number | null}
 */
export function markNear(layout, frame, x, y, reach = 5) {
  let best = null;
  let distance = reach;
  for (const marks of [...frame.recruits, ...frame.survivors]) {
    for (const cell of marks.cells) {
      const centre = cellCentre(layout, cell);
      const d = Math.hypot(centre.x - x, centre.y - y);
      if (d < distance) [best, distance] = [cell, d];
    }
  }
  return best;
}

/** @type {(context: Context, layout: Layout, palette: Palette, cell: number) => void} */
export function drawCrosshair(context, layout, palette, cell) {
  const { map, dpr, n_layers, n_neurons } = layout;
  const { x, y } = cellCentre(layout, cell);
  const layer = Math.floor(cell / n_neurons);
  const top = layerTop(map, n_layers, layer);
  context.strokeStyle = palette.ink(0.55);
  context.lineWidth = 1;
  const right = layout.stacked ? map.x + map.w : layout.bars.x + layout.bars.w;
  context.strokeRect(map.x - 1.5, top - 1, right - map.x + 3, map.row + 2);
  context.setLineDash([2, 3]);
  context.beginPath();
  context.moveTo(x, map.y);
  context.lineTo(x, map.y + map.h);
  context.stroke();
  context.setLineDash([]);
  context.strokeStyle = palette.ink(1);
  context.lineWidth = 1.5;
  const w = Math.max(map.cellW / dpr, 4) + 3;
  const h = Math.max(map.cellH / dpr, 4) + 3;
  context.strokeRect(x - w / 2, y - h / 2, w, h);
}

/**
 * The neuron whose card is open.
 * @type {(context: Context, layout: Layout, palette: Palette, cell: number) => void}
 */
export function drawChosen(context, layout, palette, cell) {
  const { x, y } = cellCentre(layout, cell);
  for (const { width, stroke } of [{ width: 3.4, stroke: css(palette.page, 0.8) }, { width: 1.8, stroke: palette.ink(1) }]) {
    context.strokeStyle = stroke;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, CHOSEN_RADIUS, 0, Math.PI * 2);
    context.stroke();
  }
}
