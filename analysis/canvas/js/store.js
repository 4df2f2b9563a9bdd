// What has arrived of a run: takes in messages, and works out what the panels need of it.
// Knows nothing of the page or of drawing.

import { flowOf, mix, timeOf } from "./snapshots.js";
import { hold } from "./value_budget.js";

/**
 * @import {
 *   Curve, Extent, Frame, Ghost, MarkKind, Marks, Measured, Message, OpenStore, Scene, SentFrame, Store
 * } from "./types"
 */

/** @type {() => Store} */
export function createStore() {
  return {
    epoch: null, number: 0, joined: true, scene: null, frames: [], control: [], live: false, status: "", half: {},
    card: null, held: 0, rasters: [],
  };
}

/**
 * Whether the scene has arrived.
 * @type {(store: Store) => store is OpenStore}
 */
export const isOpen = (store) => store.scene !== null;

/**
 * Takes in a message; tells whether everything held before was dropped. A message that starts beyond what is held (one
 * before it was lost) is dropped, too: `joined` is false then, and `missingParts` asks the server for the rest.
 * @type {(store: Store, message: Message) => { restarted: boolean }}
 */
export function absorb(store, message) {
  const epochChanged = message.epoch !== store.epoch;
  const shrank = message.start + message.frames.length < store.frames.length;
  const restarted = epochChanged || shrank;
  if (restarted) Object.assign(store, createStore(), { epoch: message.epoch });
  const { number, live, status, card } = message;
  Object.assign(store, { number, live, status, card: card ?? null, half: message.half_steps });
  const { scene, order, pruned } = message;
  if (!store.scene && order && pruned) openScene(store, scene, order, pruned);
  store.joined = isOpen(store) && message.start <= store.frames.length && message.control_start <= store.control.length;
  if (!isOpen(store)) return { restarted };
  // A run that is continued gets more steps; all else of a scene stays.
  store.scene.total_steps = scene.total_steps;
  if (!store.joined) return { restarted };
  const news = message.frames.slice(store.frames.length - message.start);
  for (const frame of news) appendFrame(store, frame);
  store.control.push(...message.control.slice(store.control.length - message.control_start));
  for (const [index, flow] of Object.entries(message.net)) {
    const frame = store.frames[Number(index)];
    if (frame) frame.net = flow;
  }
  for (const { index, values } of message.values) hold(store, index, values);
  if (news.length || message.control.length || !store.extent) {
    alignControl(store);
    store.extent = measureExtent(store);
  }
  return { restarted };
}

/** @type {(store: Store, scene: Scene, order: Uint16Array, pruned: Uint32Array) => void} */
function openScene(store, scene, order, pruned) {
  const { n_layers: layers, n_neurons: neurons } = scene;
  const rank = new Uint16Array(layers * neurons);
  let plainIndex = true;
  for (let cell = 0; cell < order.length; cell++) {
    const position = cell % neurons;
    rank[cell - position + order[cell]] = position;
    plainIndex &&= order[cell] === position;
  }
  const cut = toCells({ rank, scene }, pruned);
  const followed = toCells({ rank, scene }, Uint32Array.from(scene.followed));
  Object.assign(store, { scene, order, rank, plainIndex, pruned: cut, isPruned: new Set(cut), followed });
}

/** @type {(store: Pick<OpenStore, "rank" | "scene">, indices: Uint32Array) => Uint32Array} */
const toCells = ({ rank, scene: { n_neurons } }, indices) =>
  indices.map((index) => index - (index % n_neurons) + rank[index]);

/** @type {(store: OpenStore, raw: SentFrame) => void} */
function appendFrame(store, raw) {
  const previous = store.frames.at(-1);
  /** @type {(kind: MarkKind) => Marks[]} */
  const marksOf = (kind) => raw[kind].map(({ indices, also }, c) =>
    trackMarks(toCells(store, indices), also, previous?.[kind][c]));
  // A list that did not change since the snapshot before is the very same list.
  const words = raw.words.map((one, f) => one ?? previous?.words[f] ?? []);
  store.frames.push({
    ...raw, recruits: marksOf("recruits"), survivors: marksOf("survivors"), words,
    values: null, raster: null, net: null, ghost: null,
  });
}

/**
 * Marks of one snapshot: for how many snapshots each has stood, and whether it stands in the next.
 * @type {(cells: Uint32Array, also: Uint8Array, previous?: Marks) => Marks}
 */
function trackMarks(cells, also, previous) {
  const marks = { cells, also, age: new Uint16Array(cells.length), stays: new Uint8Array(cells.length) };
  marks.stays.fill(1);
  if (!previous) return marks;
  const slot = new Map();
  previous.cells.forEach((cell, i) => slot.set(cell, i));
  previous.stays.fill(0);
  cells.forEach((cell, i) => {
    const before = slot.get(cell);
    if (before === undefined) return;
    marks.age[i] = previous.age[before] + 1;
    previous.stays[before] = 1;
  });
  return marks;
}

/**
 * For every snapshot of the run, the control at the same step (null: not there yet).
 * @type {(store: Store) => void}
 */
function alignControl({ frames, control }) {
  for (const frame of frames) frame.ghost = control.length ? controlAt(control, frame) : null;
}

/** @type {(control: Curve[], frame: Frame) => Ghost | null} */
function controlAt(control, frame) {
  const time = timeOf(frame);
  const after = control.findIndex((curve) => timeOf(curve) >= time);
  if (after < 0) return null;
  const right = control[after];
  if (after === 0 || timeOf(right) === time) return right;
  const left = control[after - 1];
  // A control has no moment after an edit: until its first training step it is what it was.
  const from = Math.max(0, timeOf(left));
  const t = (time - from) / (timeOf(right) - from);
  /** @type {(a: Measured[], b: Measured[]) => Measured[]} */
  const between = (a, b) => a.map((value, i) => mix(value, b[i], t));
  return {
    layer_change: left.layer_change.map((row, c) => between(row, right.layer_change[c])),
    centre: between(left.centre, right.centre),
  };
}

/**
 * Ranges of the axes. The base is left out of the change by layer once there is more to see: what the
 * edit took away is far more than what moves afterwards (its bars are marked where they are cut).
 * @type {(store: OpenStore) => Extent}
 */
function measureExtent({ frames, control, scene }) {
  const all = [...frames, ...control];
  const moved = frames.some(({ phase }) => phase === "training");
  const after = moved ? all.filter(({ phase }) => phase !== "base") : all;
  /** @type {(curves: Curve[], values: (curve: Curve) => Measured[]) => number} */
  const largest = (curves, values) => {
    let most = 0;
    for (const curve of curves) {
      for (const value of values(curve)) if (value !== null) most = Math.max(most, Math.abs(value));
    }
    return most;
  };
  /** @type {(values: (curve: Curve) => Measured[]) => [number, number] | null} */
  const range = (values) => {
    const finite = all.flatMap(values).filter((value) => value !== null);
    return finite.length ? [Math.min(...finite), Math.max(...finite)] : null;
  };
  return {
    change: largest(after, (curve) => curve.layer_change.flat()),
    flow: Math.max(0, ...frames.map((frame) => throughput(frame, scene.n_layers))),
    distance: largest(all, (curve) => curve.distance),
    answer: largest(all, (curve) => [curve.retrained, curve.held_out]),
    centre: range((curve) => curve.centre),
    loss: range((curve) => [curve.neutral_loss]),
  };
}

/**
 * The most that any layer gives or takes.
 * @type {(frame: Frame, n_layers: number) => number}
 */
function throughput(frame, n_layers) {
  let most = 0;
  for (const ribbons of flowOf(frame)) {
    const [given, taken] = [new Float64Array(n_layers), new Float64Array(n_layers)];
    for (const [from, to, share] of ribbons) {
      given[from] += share;
      taken[to] += share;
    }
    most = Math.max(most, ...given, ...taken);
  }
  return most;
}
