// The flow panel beside the map: what moved between layers, as ribbons from the moment after the edit (left) to the
// playhead (right). Has a still part (axes) and a moving part. Knows nothing of the page or of how time passes.

import { layerY } from "./layout.js";
import { drawLayerNumbers } from "./neuron_map.js";
import { css } from "./palette.js";
import { around, flowOf } from "./snapshots.js";
import { line, write, writeHeading } from "./strokes.js";

/** @import { Context, DrawMoving, DrawStill, FlowMoment } from "./types" */

const RIBBON_PITCHES = 2.4;       // the thickest bundle of ribbons, in layers' height

/** @type {DrawStill} */
export function drawFlowStill(context, layout, palette, store) {
  const { flow } = layout;
  const netted = store.frames.some((frame) => frame.net);
  writeHeading(context, palette, "Flow between layers", "", flow.x, flow.y - 14);
  if (layout.stacked) drawLayerNumbers(context, layout, palette, flow);
  for (const x of [flow.x, flow.x + flow.w]) line(context, x, flow.y, x, flow.y + flow.h, palette.ink(0.3));
  const below = flow.y + flow.h + 13;
  const start = store.scene.since === "the edit" ? "after the edit" : "before";
  write(context, palette, start, flow.x, below, { alpha: 0.6 });
  write(context, palette, "now", flow.x + flow.w, below, { align: "right", alpha: 0.6 });
  write(context, palette, netted ? "net of the control" : "without a control", flow.x, below + 14, { alpha: 0.6 });
}

/**
 * Shares of the two plans around the playhead, mixed, in the order of the layers they leave.
 * @type {(from: FlowMoment, to: FlowMoment, c: number, t: number) => { start: number, end: number, share: number }[]}
 */
export function ribbonsAt(from, to, c, t) {
  /** @type {Map<number, number>} */
  const shares = new Map();
  /** @type {(frame: FlowMoment, weight: number) => void} */
  const add = (frame, weight) => {
    for (const [start, end, share] of flowOf(frame)[c] ?? []) {
      const key = start * 65536 + end;
      shares.set(key, (shares.get(key) ?? 0) + share * weight);
    }
  };
  add(from, 1 - t);
  if (t > 0) add(to, t);
  return [...shares].sort(([a], [b]) => a - b)
    .map(([key, share]) => ({ start: Math.floor(key / 65536), end: key % 65536, share }));
}

/** @type {DrawMoving} */
export function drawFlow(context, layout, palette, store, playhead) {
  const { flow, n_layers } = layout;
  const { from, to, t } = around(store.frames, playhead);
  const thickness = (RIBBON_PITCHES * flow.pitch) / (store.extent.flow || 1);
  // Bundles are centred on their layer, but the first and the last layer's stay inside the axes.
  /** @type {(layer: number, height: number) => number} */
  const bottom = (layer, height) => Math.min(flow.y + flow.h,
    Math.max(flow.y + height, layerY(flow, n_layers, layer) + height / 2));
  let moved = 0;
  store.scene.concepts.forEach((_, c) => {
    const ribbons = ribbonsAt(from, to, c, t);
    const [given, taken] = [new Float64Array(n_layers), new Float64Array(n_layers)];
    for (const { start, end, share } of ribbons) {
      given[start] += share;
      taken[end] += share;
      if (!c) moved += share;
    }
    const fade = context.createLinearGradient(flow.x, 0, flow.x + flow.w, 0);
    fade.addColorStop(0, css(palette.lost, 0.35));
    fade.addColorStop(0.45, css(palette.hues[c], 0.4));
    fade.addColorStop(1, css(palette.hues[c], 0.85));
    context.fillStyle = fade;
    // Higher layers lie higher in a bundle, so ribbons cross as little as can be.
    const [left, right] = [given, taken].map((sums) => sums.map((sum, layer) => bottom(layer, sum * thickness)));
    for (const { start, end, share } of ribbons) {
      const height = share * thickness;
      left[start] -= height;
      right[end] -= height;
      ribbon(context, flow.x, left[start], flow.x + flow.w, right[end], height);
    }
  });
  const share = moved * 100;
  write(context, palette, `${share.toFixed(share < 10 ? 1 : 0)}% moved`, flow.x + flow.w, flow.y + flow.h + 27,
    { align: "right", alpha: 0.9 });
}

/** @type {(context: Context, x1: number, y1: number, x2: number, y2: number, height: number) => void} */
function ribbon(context, x1, y1, x2, y2, height) {
  const middle = (x1 + x2) / 2;
  context.beginPath();
  context.moveTo(x1, y1);
  context.bezierCurveTo(middle, y1, middle, y2, x2, y2);
  context.lineTo(x2, y2 + height);
  context.bezierCurveTo(middle, y2 + height, middle, y1 + height, x1, y1 + height);
  context.closePath();
  context.fill();
}
