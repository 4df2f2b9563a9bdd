// Panels along time, on one axis: recovery, centre of mass, distance moved, loss on neutral text.
// Each has a still part (axes, the whole run faintly, the control as its ghost; drawn when something arrives) and a
// moving part up to the playhead. Hues belong to concepts; what belongs to none is drawn in ink and differs by dashes.

import { niceCeil, niceStep, niceTicks, padRange, playheadX, tickText, timeScale } from "./axes.js";
import { css } from "./palette.js";
import { around, mix, shownIndex } from "./snapshots.js";
import {
  LABEL_HEIGHT, SMALL, diamond, drawPlayhead, line, polyline, write, writeApart, writeHeading, writeOnPatch,
} from "./strokes.js";
import { signText } from "./text.js";

/**
 * @import {
 *   Context, Curve, DrawMoving, DrawStill, Frame, Height, Label, Layout, Measured, OpenStore, Palette, PanelContent,
 *   PanelCurve, PanelName, Rect, Sample, TimeScale
 * } from "./types"
 */

const BASE_DASH = [1, 3];
const GHOST_DASH = [4, 3];
const MIN_CENTRE_SPAN = 0.4;      // layers; a flat trail should look flat

/** @type {["retrained" | "held_out", string][]} */
const HALVES = [["retrained", "retrained"], ["held_out", "never retrained"]];

/**
 * What a panel shows: its curves, its range, and how its numbers read.
 * @type {(name: PanelName, palette: Palette, store: OpenStore) => PanelContent}
 */
function panelContent(name, palette, store) {
  const { extent, scene } = store;
  /** @type {(field: "centre" | "distance", digits: number) => PanelCurve[]} */
  const perConcept = (field, digits) => scene.concepts.map((_, c) => ({
    value: (curve) => curve[field][c], stroke: (alpha) => css(palette.hues[c], alpha), dash: [], width: 2.2,
    text: (value) => value.toFixed(digits), color: css(palette.ramps[c](palette.dark ? 0.75 : 0.9)),
  }));
  /** @type {(field: "retrained" | "held_out" | "neutral_loss", label: string, dash: number[], width: number) => PanelCurve} */
  const inInk = (field, label, dash, width) => ({
    value: (curve) => curve[field], stroke: (alpha) => palette.ink(alpha), dash, width,
    text: (value) => `${label}${value.toFixed(2)}`,
  });
  if (name === "answer") {
    return {
      title: scene.task.question, note: "", range: [0, Math.min(1, niceCeil(extent.answer * 1.02))], ticks: 2,
      curves: [inInk("retrained", "retrained ", [], 2.4), inInk("held_out", "never retrained ", [7, 4], 2)],
      baseline: true,
    };
  }
  if (name === "centre") {
    return {
      title: "Where it sits", note: "centre of mass, in layers", ticks: 2, baseline: false,
      range: padRange(extent.centre ?? [0, 1], MIN_CENTRE_SPAN), curves: perConcept("centre", 2),
    };
  }
  if (name === "distance") {
    return {
      title: "How far it moved", ticks: 2, baseline: false,
      note: `Wasserstein distance between layer distributions since ${scene.since}, in layers`,
      range: [0, niceCeil(extent.distance * 1.02)], curves: perConcept("distance", 2),
    };
  }
  return {
    title: "Side effect", note: "loss on neutral text, in nats per token; lower is better", ticks: 2,
    range: padRange(extent.loss ?? [0, 1], 0.1), curves: [inInk("neutral_loss", "", [], 1.8)], baseline: true,
  };
}

/** @type {(panel: Rect, range: [number, number]) => Height} */
const heightIn = (panel, [low, high]) => (value) => panel.y + panel.h * (high - value) / (high - low);

/**
 * Points of a curve; what was not measured is a gap.
 * @type {(moments: Curve[], scale: TimeScale, y: Height, value: PanelCurve["value"]) => [number, Measured][]}
 */
const pointsOf = (moments, scale, y, value) => moments.map((moment) => {
  const measured = value(moment);
  return [scale.of(moment), measured === null ? null : y(measured)];
});

/** @type {(layout: Layout, store: OpenStore) => TimeScale} */
export const timeOfPanels = (layout, store) => timeScale(layout.times[0], store.frames, store.scene.total_steps);

/** @type {DrawStill} */
export function drawTimesStill(context, layout, palette, store) {
  const scale = timeOfPanels(layout, store);
  for (const panel of layout.times) {
    const content = panelContent(panel.name, palette, store);
    const { title, note, range, ticks, curves, baseline } = content;
    const y = heightIn(panel, range);
    const used = writeHeading(context, palette, title, note, panel.x, panel.y - 13, panel.w);
    if (panel.name === "answer") drawKey(context, palette, store, panel, panel.x + used + 12);
    const found = niceTicks(...range, ticks);
    for (const tick of found) {
      line(context, panel.x, y(tick), panel.x + panel.w, y(tick), palette.ink(tick ? 0.1 : 0.25));
      write(context, palette, tickText(tick, niceStep(range[1] - range[0], ticks)), panel.x - 8, y(tick),
        { align: "right" });
    }
    for (const curve of curves) drawCurveStill(context, palette, store, panel, scale, y, curve, baseline);
    drawHalfLines(context, palette, store, panel, scale, panel.name === "answer");
    if (panel.name === "answer") drawHalfMarks(context, palette, store, scale, y);
  }
  drawTimeAxis(context, palette, layout.times[layout.times.length - 1], scale, layout.axisY);
}

/**
 * The whole run faintly, the control thinner, the level before the edit dotted.
 * @type {(
 *   context: Context, palette: Palette, store: OpenStore, panel: Rect, scale: TimeScale, y: Height, curve:
 *   PanelCurve, baseline: boolean
 * ) => void}
 */
function drawCurveStill(context, palette, store, panel, scale, y, { value, stroke, dash }, baseline) {
  const base = store.frames[0];
  const level = baseline && base.phase === "base" ? value(base) : null;
  if (level !== null) {
    line(context, panel.x, y(level), panel.x + panel.w, y(level), palette.ink(0.5), 1.2, BASE_DASH);
  }
  polyline(context, pointsOf(store.control, scale, y, value), stroke(0.5), 1.1, dash.length ? dash : GHOST_DASH);
  polyline(context, pointsOf(store.frames, scale, y, value), stroke(0.22), 1.5, dash);
}

/** @type {(context: Context, palette: Palette, store: OpenStore, panel: Rect, from: number) => void} */
function drawKey(context, palette, store, panel, from) {
  const y = panel.y - 13;
  let x = from;
  const right = panel.x + panel.w;
  /** @type {(label: string, width: number, draw: (at: number, middle: number) => void) => void} */
  const entry = (label, width, draw) => {
    context.font = `400 ${SMALL}px ${palette.font}`;
    const end = x + width + 6 + context.measureText(label).width;
    if (end > right) return;
    draw(x, y);
    write(context, palette, label, x + width + 6, y);
    x = end + 16;
  };
  /** @type {(stroke: string, width: number, dash: number[]) => (at: number, middle: number) => void} */
  const sample = (stroke, width, dash) => (at, middle) =>
    line(context, at, middle, at + 24, middle, stroke, width, dash);
  entry(store.scene.task.trained, 24, sample(palette.ink(0.95), 2.4, []));
  entry(store.scene.task.held_out, 24, sample(palette.ink(0.8), 2, [7, 4]));
  if (Object.values(store.half).some((step) => step !== null)) {
    entry("half regained", 9, (at, middle) => diamond(context, palette, at + 4.5, middle));
  }
  if (store.control.length) entry("control (no edit)", 24, sample(palette.ink(0.5), 1.1, GHOST_DASH));
  if (store.frames[0].phase === "base") entry("before the edit", 24, sample(palette.ink(0.5), 1.2, BASE_DASH));
}

/** @type {(context: Context, palette: Palette, rect: Rect, scale: TimeScale, y: number) => void} */
function drawTimeAxis(context, palette, rect, scale, y) {
  line(context, scale.ofStep(0), y, rect.x + rect.w, y, palette.ink(0.35));
  const top = y + 12;
  if (scale.gap) {
    // Two strokes say that the axis is broken between the base and the edit.
    line(context, rect.x, y, rect.x + scale.gap * 0.4, y, palette.ink(0.35));
    for (const shift of [0.4, 0.6]) {
      const x = rect.x + scale.gap * shift;
      line(context, x - 2, y + 4, x + 2, y - 4, palette.ink(0.5));
    }
    write(context, palette, "before", rect.x, top, { align: "center" });
  }
  const end = rect.x + rect.w;
  const unit = "training step";
  const room = end - context.measureText(unit).width - 34;
  write(context, palette, "edit", scale.ofStep(0), top, { align: "center" });
  const step = Math.max(1, Math.ceil(niceStep(scale.last, Math.max(2, rect.w / 90))));
  for (let at = step; at <= scale.last + 1e-9; at += step) {
    const x = scale.ofStep(at);
    line(context, x, y, x, y + 4, palette.ink(0.35));
    if (x < room) write(context, palette, tickText(at, step), x, top, { align: "center" });
  }
  write(context, palette, unit, end, top, { align: "right", alpha: 0.6 });
}

/**
 * The moment of half recovery, on every panel with a time axis.
 * @type {(
 *   context: Context, palette: Palette, store: OpenStore, rect: Rect, scale: TimeScale, labelled: boolean
 * ) => void}
 */
function drawHalfLines(context, palette, store, rect, scale, labelled) {
  HALVES.forEach(([field, label], row) => {
    const step = store.half[field] ?? null;
    if (step === null) return;
    const x = scale.ofStep(step);
    line(context, x, rect.y, x, rect.y + rect.h, palette.ink(0.45), 1, [3, 3]);
    if (!labelled) return;
    const nearRight = x > rect.x + rect.w - 190;
    writeOnPatch(context, palette, `half regained, ${label}: step ${Number(step.toFixed(1))}`,
      x + (nearRight ? -6 : 6), rect.y + 8 + row * LABEL_HEIGHT, { align: nearRight ? "right" : "left", alpha: 0.8 });
  });
}

/** @type {(context: Context, palette: Palette, store: OpenStore, scale: TimeScale, y: Height) => void} */
function drawHalfMarks(context, palette, store, scale, y) {
  for (const [field] of HALVES) {
    const step = store.half[field] ?? null;
    const value = step === null ? null : valueAtStep(store.frames, field, step);
    if (step !== null && value !== null) diamond(context, palette, scale.ofStep(step), y(value));
  }
}

/** @type {(frames: Frame[], field: "retrained" | "held_out", step: number) => Measured} */
export function valueAtStep(frames, field, step) {
  const after = frames.findIndex((frame) => frame.phase !== "base" && frame.step >= step);
  if (after < 0) return null;
  const right = frames[after];
  const left = frames[after - 1];
  if (!left || left.phase === "base" || right.step === step) return right[field];
  return mix(left[field], right[field], (step - left.step) / (right.step - left.step));
}

/** @type {DrawMoving} */
export function drawTimes(context, layout, palette, store, playhead) {
  const scale = timeOfPanels(layout, store);
  const x = playheadX(scale, store.frames, playhead);
  const sample = around(store.frames, playhead);
  const shown = store.frames[shownIndex(playhead)];     // dots glide, numbers are measured ones
  const top = layout.times[0].y;
  const bottom = layout.lanes.count ? layout.lanes.y + layout.lanes.h : layout.axisY;
  drawPlayhead(context, palette, x, top, bottom - top);
  for (const panel of layout.times) {
    const { range, curves } = panelContent(panel.name, palette, store);
    const y = heightIn(panel, range);
    /** @type {Label[]} */
    const labels = [];
    for (const curve of curves) {
      const dotY = drawReached(context, palette, store, panel, scale, x, y, curve, sample);
      const measured = curve.value(shown);
      if (dotY !== null && measured !== null) labels.push({ text: signText(curve.text(measured)), y: dotY, color: curve.color });
    }
    writeApart(context, palette, labels, x, panel);
  }
}

/**
 * The stretch up to the playhead, with a dot at its end; returns where the dot is.
 * @type {(
 *   context: Context, palette: Palette, store: OpenStore, panel: Rect, scale: TimeScale, x: number, y: Height,
 *   curve: PanelCurve, sample: Sample
 * ) => Measured}
 */
function drawReached(context, palette, store, panel, scale, x, y, { value, stroke, dash, width }, { from, to, t }) {
  context.save();
  context.beginPath();
  context.rect(panel.x - 4, panel.y - 6, x - panel.x + 4, panel.h + 12);
  context.clip();
  polyline(context, pointsOf(store.frames, scale, y, value), stroke(0.95), width, dash);
  context.restore();
  const reached = mix(value(from), value(to), t);
  if (reached === null) return null;
  const dotY = y(reached);
  context.fillStyle = stroke(1);
  context.beginPath();
  context.arc(x, dotY, 3.6, 0, Math.PI * 2);
  context.fill();
  return dotY;
}
