// Lanes: every followed neuron on a line of its own along time, with the words that drive it.
// A stretch is as long as a set of words stays the same; words that were not there before are in the concept's hue.
// The brighter a stretch, the more the neuron carries the concept. Same time axis as the panels above.

import { timeScale } from "./axes.js";
import { LANE_HEIGHT } from "./layout.js";
import { css } from "./palette.js";
import { nameOf } from "./snapshots.js";
import { SMALL, fitText, line, write, writeHeading } from "./strokes.js";
import { signText, visible } from "./text.js";

/** @import { Context, DrawStill, Frame, Layout, OpenStore, Palette, Stretch, TimeScale } from "./types" */

const LANE_GAP = 4;
const WORD_GAP = 9;

/**
 * Stretches of equal words: [{ first, last (snapshots), words, fresh (set of new words), similarity }].
 * @type {(frames: Frame[], f: number) => Stretch[]}
 */
export function stretchesOf(frames, f) {
  /** @type {Stretch[]} */
  const stretches = [];
  frames.forEach((frame, i) => {
    const words = frame.words[f];
    const current = stretches.at(-1);
    if (current && sameSet(current.words, words)) {
      current.last = i;
      return;
    }
    const before = new Set(current?.words ?? words);
    stretches.push({
      first: i, last: i, words, fresh: new Set(words.filter((word) => !before.has(word))),
      similarity: frame.similarity[f],
    });
  });
  return stretches;
}

/** @type {(a: string[], b: string[]) => boolean} */
const sameSet = (a, b) => a === b || (a.length === b.length && a.every((word) => b.includes(word)));

/** @type {(layout: Layout, f: number) => number} */
const laneTop = ({ lanes }, f) => lanes.y + f * LANE_HEIGHT;

/** @type {DrawStill} */
export function drawLanesStill(context, layout, palette, store) {
  const { lanes } = layout;
  if (!lanes.count) return;
  const scale = timeScale(lanes, store.frames, store.scene.total_steps);
  const hue = css(palette.ramps[0](palette.dark ? 0.75 : 0.9));
  const note = store.frames.some((frame) => frame.words.some((words) => words.length))
    ? "the words that drive each followed neuron most; new words in colour; the number is how similar they are to those before the edit (cosine)"
    : "brighter: carries more of the concept";
  writeHeading(context, palette, "Words over time", note, lanes.x, lanes.y - 13, lanes.w);
  for (let f = 0; f < lanes.count; f++) {
    const top = laneTop(layout, f);
    const height = LANE_HEIGHT - LANE_GAP;
    const middle = top + height / 2;
    const edited = store.isPruned.has(store.followed[f]);
    write(context, palette, nameOf(store, store.followed[f]), lanes.x - 8, middle,
      { align: "right", weight: edited ? 400 : 600, alpha: edited ? 0.55 : 0.9 });
    drawLaneGround(context, layout, palette, store, scale, f, top, height);
    for (const stretch of stretchesOf(store.frames, f)) {
      const x = scale.of(store.frames[stretch.first]);
      const next = store.frames[stretch.last + 1];
      const end = next ? scale.of(next) : lanes.x + lanes.w;
      if (stretch.first) line(context, x, top, x, top + height, palette.ink(0.4));
      drawWords(context, palette, stretch, x + 6, end - 6, middle, hue);
    }
  }
}

/**
 * Brightness between two snapshots glides from one score to the next.
 * @type {(
 *   context: Context, layout: Layout, palette: Palette, store: OpenStore, scale: TimeScale, f: number, top: number,
 *   height: number
 * ) => void}
 */
function drawLaneGround(context, layout, palette, store, scale, f, top, height) {
  const { lanes } = layout;
  const stops = store.frames.map((frame) => [scale.of(frame), Math.min(1, (frame.followed[0]?.[f] ?? 0) / 2)]);
  const ground = context.createLinearGradient(lanes.x, 0, lanes.x + lanes.w, 0);
  for (const [x, level] of stops) {
    ground.addColorStop(Math.max(0, Math.min(1, (x - lanes.x) / lanes.w)), css(palette.hues[0], 0.06 + 0.34 * level));
  }
  context.fillStyle = ground;
  const [reached] = stops[stops.length - 1];
  const right = store.live ? Math.min(lanes.x + lanes.w, reached + 2) : lanes.x + lanes.w;
  context.fillRect(lanes.x, top, right - lanes.x, height);
}

/**
 * @type {(
 *   context: Context, palette: Palette, stretch: Stretch, x: number, end: number, middle: number, hue: string
 * ) => void}
 */
function drawWords(context, palette, { words, fresh, similarity }, x, end, middle, hue) {
  const number = similarity === null || similarity === undefined ? "" : similarity.toFixed(2);
  context.font = `400 ${SMALL}px ${palette.font}`;
  const tail = number && end - x > 90 ? context.measureText(signText(number)).width + WORD_GAP : 0;
  if (tail) write(context, palette, signText(number), end, middle, { align: "right", alpha: 0.6 });
  const room = end - tail - x;
  const widths = words.map((word) => context.measureText(visible(word)).width + WORD_GAP);
  const fits = widths.reduce((sum, width) => sum + width, 0) <= room;
  // Where not all have room, what is new comes first.
  const order = fits ? words : [...words].sort((a, b) => Number(fresh.has(b)) - Number(fresh.has(a)));
  let at = x;
  for (const word of order) {
    const options = fresh.has(word) ? { weight: 600, color: hue } : { alpha: 0.85 };
    context.font = `${options.weight ?? 400} ${SMALL}px ${palette.font}`;
    const text = fitText(context, visible(word), end - tail - at);
    if (text.length < Math.min(4, word.length)) return;
    write(context, palette, text, at, middle, options);
    at += context.measureText(text).width + WORD_GAP;
  }
}

/** @type {(layout: Layout, y: number) => number | null} */
export function laneAt({ lanes }, y) {
  const f = Math.floor((y - lanes.y) / LANE_HEIGHT);
  return f >= 0 && f < lanes.count ? f : null;
}

/** @type {(context: Context, layout: Layout, palette: Palette, f: number) => void} */
export function drawLaneFocus(context, layout, palette, f) {
  const { lanes } = layout;
  context.strokeStyle = palette.ink(0.7);
  context.lineWidth = 1;
  context.strokeRect(lanes.x - 0.5, laneTop(layout, f) - 0.5, lanes.w + 1, LANE_HEIGHT - LANE_GAP + 1);
}
