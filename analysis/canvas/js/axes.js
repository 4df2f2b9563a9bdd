// Axes: the time axis that panels and lanes share, round numbers for ticks, ranges of panels.
// Pure functions of sizes and ranges.

import { around, mix } from "./snapshots.js";
import { signText } from "./text.js";

/** @import { Frame, Rect, TimeScale } from "./types" */

// The time axis of a panel: steps in proportion, the base set apart on the left.
const BASE_GAP = 0.085;

/** @type {(rect: Rect, frames: Frame[], totalSteps: number) => TimeScale} */
export function timeScale(rect, frames, totalSteps) {
  const gap = frames[0]?.phase === "base" ? Math.min(64, Math.max(16, rect.w * BASE_GAP)) : 0;
  const last = Math.max(totalSteps, frames.at(-1)?.step ?? 0);
  /** @type {(step: number) => number} */
  const ofStep = (step) => rect.x + gap + (step / last) * (rect.w - gap);
  return { gap, ofStep, of: (frame) => (frame.phase === "base" ? rect.x : ofStep(frame.step)), last };
}

/** @type {(scale: TimeScale, frames: Frame[], playhead: number) => number} */
export function playheadX(scale, frames, playhead) {
  const { from, to, t } = around(frames, playhead);
  return mix(scale.of(from), scale.of(to), t);
}

/** @type {(scale: TimeScale, frames: Frame[], x: number) => number} */
export function nearestFrame(scale, frames, x) {
  let best = 0;
  frames.forEach((frame, i) => {
    if (Math.abs(scale.of(frame) - x) < Math.abs(scale.of(frames[best]) - x)) best = i;
  });
  return best;
}

/** @type {(span: number, count: number) => number} */
export function niceStep(span, count) {
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  return ([1, 2, 2.5, 5].find((factor) => factor * power >= raw * 0.999) ?? 10) * power;
}

/** @type {(low: number, high: number, count: number) => number[]} */
export function niceTicks(low, high, count) {
  const step = niceStep(high - low, count);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  return ticks;
}

/** @type {(value: number) => number} */
export const niceCeil = (value) => {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 1.5, 2, 3, 4, 5, 6, 8].find((factor) => factor * power >= value * 0.999) ?? 10) * power;
};

/**
 * A range widened a little, and never so narrow that noise would fill the panel.
 * @type {(range: [number, number], minSpan: number, share?: number) => [number, number]}
 */
export function padRange([low, high], minSpan, share = 0.12) {
  const span = Math.max(high - low, minSpan);
  const middle = (low + high) / 2;
  return [middle - span * (0.5 + share), middle + span * (0.5 + share)];
}

/**
 * As many decimals as the distance between ticks needs.
 * @type {(value: number, step: number) => string}
 */
export function tickText(value, step) {
  let decimals = 0;
  while (decimals < 8 && Math.abs(step * 10 ** decimals % 1) > 1e-6
    && Math.abs(step * 10 ** decimals % 1) < 1 - 1e-6) decimals++;
  return signText(value.toFixed(decimals));
}
