// Strokes and words on a canvas that every panel needs: lines, labels that keep clear of each other, headings.
// Knows a 2d context and the palette; knows nothing of snapshots.

import { css } from "./palette.js";

/** @import { Context, Label, Measured, Palette, Rect, TextOptions } from "./types" */

export const SMALL = 11;
const TITLE_SIZE = 12.5;
export const LABEL_HEIGHT = 15;

/** @type {(context: Context, palette: Palette, text: string, x: number, y: number, options?: TextOptions) => void} */
export function write(context, palette, text, x, y, options = {}) {
  const { size = SMALL, weight = 400, align = "left", baseline = "middle", alpha = 0.72, color } = options;
  context.font = `${weight} ${size}px ${palette.font}`;
  context.textAlign = align;
  context.textBaseline = baseline;
  context.fillStyle = color ?? palette.ink(alpha);
  context.fillText(text, x, y);
}

/**
 * @type {(
 *   context: Context, x1: number, y1: number, x2: number, y2: number, stroke: string, width?: number, dash?:
 *   number[]
 * ) => void}
 */
export function line(context, x1, y1, x2, y2, stroke, width = 1, dash = []) {
  context.strokeStyle = stroke;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
  context.setLineDash([]);
}

/**
 * A line through points; a null value leaves a gap.
 * @type {(context: Context, points: [number, Measured][], stroke: string, width: number, dash?: number[]) => void}
 */
export function polyline(context, points, stroke, width, dash = []) {
  context.strokeStyle = stroke;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.beginPath();
  let pen = false;
  for (const [x, y] of points) {
    if (y === null) pen = false;
    else if (pen) context.lineTo(x, y);
    else context.moveTo(x, y), pen = true;
  }
  context.stroke();
  context.setLineDash([]);
}

/**
 * Text on a patch of the page, so that it stays readable where curves run.
 * @type {(context: Context, palette: Palette, text: string, x: number, y: number, options?: TextOptions) => void}
 */
export function writeOnPatch(context, palette, text, x, y, options = {}) {
  const { size = SMALL, weight = 400, align = "left" } = options;
  context.font = `${weight} ${size}px ${palette.font}`;
  const width = context.measureText(text).width;
  context.fillStyle = css(palette.page, 0.82);
  context.fillRect((align === "right" ? x - width : x) - 3, y - size * 0.7, width + 6, size * 1.4);
  write(context, palette, text, x, y, options);
}

/**
 * As much of a text as has room, with an ellipsis for the rest.
 * @type {(context: Pick<Context, "measureText">, text: string, room: number) => string}
 */
export function fitText(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (context.measureText(`${text.slice(0, middle)}\u2026`).width <= room) low = middle;
    else high = middle - 1;
  }
  return low ? `${text.slice(0, low).trimEnd()}\u2026` : "";
}

/**
 * A panel's title and, quieter, what else it needs to be understood.
 * @type {(
 *   context: Context, palette: Palette, title: string, note: string, x: number, y: number, room?: number
 * ) => number}
 */
export function writeHeading(context, palette, title, note, x, y, room = Infinity) {
  write(context, palette, title, x, y, { size: TITLE_SIZE, weight: 600, alpha: 0.95 });
  const width = context.measureText(title).width + 8;
  if (!note) return width;
  context.font = `400 ${SMALL}px ${palette.font}`;
  const text = fitText(context, note, room - width);
  write(context, palette, text, x + width, y, { alpha: 0.6 });
  return width + context.measureText(text).width + 16;
}

/**
 * Labels beside the playhead, moved apart where curves meet, on the side that has room.
 * @type {(context: Context, palette: Palette, labels: Label[], x: number, panel: Rect) => void}
 */
export function writeApart(context, palette, labels, x, panel) {
  labels.sort((a, b) => a.y - b.y);
  for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + LABEL_HEIGHT);
  const overflow = Math.max(0, (labels.at(-1)?.y ?? 0) - (panel.y + panel.h - 2));
  const left = x > panel.x + panel.w - 110;
  for (const { text, y, color } of labels) {
    writeOnPatch(context, palette, text, left ? x - 9 : x + 9, y - overflow,
      { size: 12, weight: 600, alpha: 1, color, align: left ? "right" : "left" });
  }
}

/** @type {(context: Context, palette: Palette, x: number, y: number) => void} */
export function diamond(context, palette, x, y) {
  context.fillStyle = css(palette.page);
  context.strokeStyle = palette.ink(0.95);
  context.lineWidth = 1.6;
  context.beginPath();
  context.moveTo(x, y - 5);
  context.lineTo(x + 5, y);
  context.lineTo(x, y + 5);
  context.lineTo(x - 5, y);
  context.closePath();
  context.fill();
  context.stroke();
}

/** @type {(context: Context, palette: Palette, x: number, y: number, height: number) => void} */
export const drawPlayhead = (context, palette, x, y, height) =>
  line(context, x, y - 3, x, y + height + 3, palette.ink(0.75), 1.2);
