// The player: where the playhead is, where it is going, and what each control asks of it.
// Knows time and the number of snapshots; knows nothing of the page, of data or of drawing.
// The playhead counts snapshots; between two whole numbers the picture is on its way. It comes to
// rest on whole numbers only: what stands still on screen was measured.

/** @import { Player } from "./types" */

const SNAPSHOT_MS = 700;          // from one snapshot to the next at speed 1
const MAX_TICK_MS = 100;          // a hidden tab must not come back with a leap
const CATCH_UP = 3;               // snapshots that "follow latest" plays; further back it skips
export const SPEEDS = [0.5, 1, 2, 4];

/** @type {(view: Pick<Player, "store">) => number} */
export const lastIndex = (view) => Math.max(0, view.store.frames.length - 1);

/** @type {(view: Player) => boolean} */
export const isRunning = (view) => view.playing || view.following;

/** @type {(view: Player) => number} */
const goal = (view) => (isRunning(view) ? lastIndex(view) : Math.min(view.rest, lastIndex(view)));

/** @type {(view: Player) => boolean} */
export const isMoving = (view) => view.playhead < goal(view) && !isStarved(view);

/**
 * The next snapshot's values are still on their way: the playhead waits for them on a whole number.
 * @type {(view: Player) => boolean}
 */
export function isStarved({ playhead, store }) {
  const next = store.frames[Math.floor(playhead) + 1];
  return Number.isInteger(playhead) && next !== undefined && !next.values;
}

/** @type {(view: Player, now: number) => void} */
export function advance(view, now) {
  const elapsed = view.clock ? Math.min(now - view.clock, MAX_TICK_MS) : 0;
  view.clock = now;
  const last = lastIndex(view);
  if (view.following && view.playhead < last - CATCH_UP) view.playhead = last - CATCH_UP;
  const progress = (elapsed * view.speed) / SNAPSHOT_MS;
  const before = view.playhead;
  view.playhead = view.motion.matches ? jump(view, progress) : view.playhead + progress;
  view.playhead = lastReady(view.store, before, view.playhead);
  if (view.playhead < goal(view)) return;
  view.playhead = goal(view);
  view.clock = 0;
  view.following ||= view.playing && view.store.live;
  view.playing = false;
}

/**
 * No further than the values reach that are here.
 * @type {(store: Player["store"], from: number, to: number) => number}
 */
function lastReady({ frames }, from, to) {
  for (let index = Math.floor(from) + 1; index <= Math.ceil(to) && index < frames.length; index++) {
    if (!frames[index].values) return Math.max(from, index - 1);
  }
  return to;
}

/**
 * For readers who asked for less motion: the same pace, in jumps from snapshot to snapshot.
 * @type {(view: Player, progress: number) => number}
 */
function jump(view, progress) {
  if (view.following) return lastIndex(view);
  view.pending += progress;
  if (view.pending < 1) return view.playhead;
  view.pending = 0;
  return Math.floor(view.playhead) + 1;
}

/**
 * After a message: play a finished run once from its beginning, stay with a live one, otherwise
 * leave the playhead where its reader put it.
 * @type {(view: Player) => void}
 */
export function onArrival(view) {
  const { store } = view;
  if (!store.frames.length) {
    view.following = store.live;
    return;
  }
  if (!view.started) {
    view.started = true;
    const autoplay = !store.live && !view.motion.matches;
    Object.assign(view, { playing: autoplay, following: store.live });
    view.playhead = autoplay ? 0 : lastIndex(view);
  }
  view.playhead = Math.min(view.playhead, lastIndex(view));
  if (view.following && !store.live) {    // the run has ended: on to its last snapshot, then rest
    Object.assign(view, { playing: true, following: false });
  }
}

/** @type {(view: Player) => void} */
export function togglePlay(view) {
  const start = !(isRunning(view) && isMoving(view));
  view.playing = start;
  view.following = false;
  view.rest = Math.ceil(view.playhead);
  view.pending = 0;
  if (start && view.playhead >= lastIndex(view)) view.playhead = 0;
}

/** @type {(view: Player, index: number) => void} */
export function seek(view, index) {
  view.playing = view.following = false;
  view.playhead = view.rest = Math.max(0, Math.min(lastIndex(view), index));
}

/** @type {(view: Player, on: boolean) => void} */
export function followLatest(view, on) {
  if (on) seek(view, lastIndex(view));
  view.following = on && view.store.live;
}

/** @type {(view: Player) => void} */
export const stepBack = (view) => seek(view, Math.ceil(view.playhead) - 1);

/** @type {(view: Player) => void} */
export const stepForward = (view) => seek(view, Math.floor(view.playhead) + 1);

/** @type {(view: Player, by: number) => void} */
export function changeSpeed(view, by) {
  const at = SPEEDS.indexOf(view.speed) + by;
  view.speed = SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, at))];
}
