// The bars panel beside the map: how each layer's mass changed, with the control as an outline.
// Has a still part (axes) and a moving part. Knows nothing of the page or of how time passes.

import { niceCeil } from "./axes.js";
import { layerTop } from "./layout.js";
import { css } from "./palette.js";
import { around, mix } from "./snapshots.js";
import { line, write, writeHeading } from "./strokes.js";

/** @import { Context, DrawMoving, DrawStill, Layout, OpenStore, Palette } from "./types" */

/** @type {(layout: Layout, store: OpenStore) => { limit: number, x: (value: number) => number }} */
const barScale = ({ bars }, store) => {
  const limit = niceCeil(store.extent.change);
  return { limit, x: (value) => bars.x + bars.w / 2 + (value / limit) * (bars.w / 2) };
};

/** @type {DrawStill} */
export function drawBarsStill(context, layout, palette, store) {
  const { bars } = layout;
  const { limit, x } = barScale(layout, store);
  writeHeading(context, palette, "Change by layer", "", bars.x, bars.y - 14);
  for (const share of [-1, 0, 1]) {
    line(context, x(share * limit), bars.y, x(share * limit), bars.y + bars.h, palette.ink(share ? 0.1 : 0.35));
    const align = share < 0 ? "left" : share > 0 ? "right" : "center";
    const text = share ? `${share > 0 ? "+" : "\u2212"}${Number(limit.toPrecision(3))}` : "0";
    write(context, palette, text, x(share * limit), bars.y + bars.h + 13, { align });
  }
  const note = store.control.length ? "outline: control" : "summed saliency";
  write(context, palette, note, bars.x + bars.w / 2, bars.y + bars.h + 27, { align: "center", alpha: 0.6 });
}

/** @type {DrawMoving} */
export function drawBars(context, layout, palette, store, playhead) {
  const { bars, n_layers } = layout;
  const { limit, x } = barScale(layout, store);
  const { from, to, t } = around(store.frames, playhead);
  const concepts = store.scene.concepts.length;
  const thickness = bars.row / concepts;
  const zero = x(0);
  /** @type {(value: number) => number} */
  const cut = (value) => Math.max(-limit, Math.min(limit, value));
  for (let layer = 0; layer < n_layers; layer++) {
    for (let c = 0; c < concepts; c++) {
      const top = layerTop(bars, n_layers, layer) + c * thickness;
      const value = mix(from.layer_change[c][layer], to.layer_change[c][layer], t);
      const ghost = from.ghost && to.ghost && mix(from.ghost.layer_change[c][layer], to.ghost.layer_change[c][layer], t);
      if (value !== null) {
        context.fillStyle = value >= 0 ? css(palette.hues[c]) : css(palette.lost);
        const inset = Math.min(1.5, thickness * 0.15);
        fillBar(context, zero, x(cut(value)), top + inset, thickness - 2 * inset);
        if (Math.abs(value) > limit) drawCut(context, palette, x(cut(value)), top, thickness, value);
      }
      if (ghost !== null) {
        context.strokeStyle = palette.ink(0.5);
        context.lineWidth = 1;
        const end = x(cut(ghost));
        context.strokeRect(Math.min(zero, end), top + 0.5, Math.abs(end - zero), Math.max(0, thickness - 1));
      }
    }
  }
}

/** @type {(context: Context, x1: number, x2: number, y: number, height: number) => void} */
const fillBar = (context, x1, x2, y, height) =>
  context.fillRect(Math.min(x1, x2), y, Math.abs(x2 - x1), Math.max(1, height));

/**
 * A bar beyond the axis is cut off, and says so.
 * @type {(context: Context, palette: Palette, x: number, top: number, height: number, value: number) => void}
 */
function drawCut(context, palette, x, top, height, value) {
  const sign = Math.sign(value);
  context.fillStyle = css(palette.page);
  for (const shift of [4, 8]) context.fillRect(x - sign * shift - 1, top, 2, height);
}
