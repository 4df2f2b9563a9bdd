// Which snapshots' values are in memory: a fixed budget, whatever the length of the run.
// Values are what is large (a byte for every neuron and concept). Those nearest to the playhead are kept; the others are
// dropped, and asked for again when the playhead comes near. Knows snapshots; knows nothing of the page.

/** @import { Frame, HeldFrame, OpenStore, Scene, Store } from "./types" */

const HELD_BYTES = 64 * 2 ** 20;
const ASKED_BYTES = 2 * 2 ** 20;      // what one message has room for, as in ui/canvas/__init__.py
const MIN_HELD = 8;

/** @type {(scene: Scene) => number} */
const bytesOfFrame = ({ concepts, n_layers, n_neurons }) => concepts.length * n_layers * n_neurons;

/** @type {(scene: Scene) => number} */
const capacityOf = (scene) => Math.max(MIN_HELD, Math.floor(HELD_BYTES / bytesOfFrame(scene)));

/** @type {(scene: Scene) => number} */
const askedAtOnce = (scene) =>
  Math.max(1, Math.min(Math.floor(ASKED_BYTES / bytesOfFrame(scene)), Math.floor(capacityOf(scene) / 4)));

/** @type {(store: Store, index: number, values: Uint8Array[]) => void} */
export function hold(store, index, values) {
  const frame = store.frames[index];
  if (!frame || frame.values) return;
  frame.values = values;
  store.held++;
}

/**
 * Drops what lies farthest from the playhead until the rest fits.
 * @type {(store: OpenStore, at: number) => void}
 */
export function letGo(store, at) {
  const room = capacityOf(store.scene);
  let [low, high] = [0, store.frames.length - 1];
  while (store.held > room && low <= high) {
    const farthest = at - low >= high - at ? low++ : high--;
    const frame = store.frames[farthest];
    if (!frame.values) continue;
    Object.assign(frame, { values: null, raster: null });
    store.rasters = store.rasters.filter((one) => one !== frame);
    store.held--;
  }
}

/**
 * The nearest missing stretch of the window around the playhead, as "first-end"; "" if nothing is missing.
 * @type {(store: Store, at: number) => string}
 */
export function wanted(store, at) {
  const { frames, scene } = store;
  if (!scene || !frames.length) return "";
  const chunk = askedAtOnce(scene);
  const reach = Math.floor(capacityOf(scene) / 2) - 1;
  /** @type {(index: number) => boolean} */
  const missing = (index) => index >= 0 && index < frames.length && !frames[index].values;
  for (let distance = 0; distance <= reach; distance++) {
    if (missing(at + distance)) {
      const first = at + distance;
      let end = first;
      while (end - first < chunk && end - at <= reach && missing(end)) end++;
      return `${first}-${end}`;
    }
    if (missing(at - distance)) {
      const end = at - distance + 1;
      let first = end;
      while (end - first < chunk && at - first < reach && missing(first - 1)) first--;
      return `${first}-${end}`;
    }
  }
  return "";
}

/** @type {(frame: Frame | undefined) => frame is HeldFrame} */
export const isHeld = (frame) => Boolean(frame?.values);

/**
 * The snapshot nearest to a number whose values are here; null if none are.
 * @type {(store: Store, index: number) => HeldFrame | null}
 */
export function nearestHeld({ frames }, index) {
  for (let distance = 0; distance < frames.length; distance++) {
    for (const frame of [frames[index - distance], frames[index + distance]]) {
      if (isHeld(frame)) return frame;
    }
  }
  return null;
}

/**
 * What the server has to be told, in the format of ui/canvas/browser_copy.py; "" if nothing is missing.
 * @type {(store: Store, at: number) => string}
 */
export function missingParts(store, at) {
  const holds = store.joined ? "" : `${store.frames.length},${store.control.length}`;
  const needed = wanted(store, at);
  return holds || needed ? `${store.epoch}#${store.number}|${holds}|${needed}` : "";
}
