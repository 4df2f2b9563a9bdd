// A small run for tests: records as they arrive, and the bytes in which they travel.

import { createStore, absorb } from "../../analysis/canvas/js/store.js";

export const LAYERS = 3;
export const NEURONS = 7;
const CELLS = LAYERS * NEURONS;

// Layer 0 is in the order of its neurons, layer 1 backwards, layer 2 rotated by two.
const order = Uint16Array.from({ length: CELLS }, (_, cell) => {
  const [layer, rank] = [Math.floor(cell / NEURONS), cell % NEURONS];
  return [rank, NEURONS - 1 - rank, (rank + 2) % NEURONS][layer];
});

export function makeScene(changes = {}) {
  return {
    n_layers: LAYERS, n_neurons: NEURONS, signed: true, unit: "change of saliency", since: "the edit", full_scale: 0.5,
    concepts: [{ name: "capitals", title: "Capital cities", place: 0 }], tracked: ["Capital cities", "Sports"],
    task: { question: "Does it know?", measure: "P(answer)", trained: "retrained facts", held_out: "other facts" },
    edit_label: "pruned", total_steps: 10, n_pruned: 2, followed: [0, 7], ...changes,
  };
}

// Without changes: the base, the edit, then steps 1, 2, ...
export function makeFrame(index, changes = {}) {
  const noMarks = () => [{ indices: new Uint32Array(), also: new Uint8Array() }];
  return {
    index, phase: ["base", "edited", "training"][Math.min(index, 2)], step: Math.max(0, index - 1),
    layer_change: [[0, 0, 0]], centre: [1], distance: [0], retrained: 0.5, held_out: 0.25, neutral_loss: 4,
    n_recruits: [0], n_survivors: [0], recruits: noMarks(), survivors: noMarks(),
    flow: [[]], followed: [[0, 0]], words: [[], []], similarity: [null, null], ...changes,
  };
}

// What is told of one moment of the control.
export function makeCurve(step, changes = {}) {
  const { phase, layer_change, centre, distance, retrained, held_out, neutral_loss } = makeFrame(2);
  return { phase, step, layer_change, centre, distance, retrained, held_out, neutral_loss, ...changes };
}

export const makeMarks = (indices, also = indices.map(() => 255)) =>
  [{ indices: Uint32Array.from(indices), also: Uint8Array.from(also) }];

export const makeValues = (index, fill = 128) => ({ index, values: [new Uint8Array(CELLS).fill(fill)] });

export function makeMessage(frames, changes = {}) {
  return {
    epoch: "run#1|capitals", number: 1, start: 0, control_start: 0, live: false, status: "", half_steps: {}, scene: makeScene(),
    frames, control: [], values: frames.map(({ index }) => makeValues(index)), net: {}, card: null,
    order, pruned: Uint32Array.of(1, 8), ...changes,
  };
}

// What comes later brings no arrays of the scene.
export const makeDelta = (start, frames, changes = {}) =>
  makeMessage(frames, { start, order: undefined, pruned: undefined, ...changes });

export function makeStore(frames, changes = {}) {
  const store = createStore();
  absorb(store, makeMessage(frames, changes));
  return store;
}

// As analysis/canvas/wire.py packs it, behind `shift` bytes that do not belong to it.
export function encode(message, shift = 0) {
  const { order: sentOrder, pruned, frames, values, ...rest } = message;
  const light = frames.map(({ recruits, survivors, ...frame }) => ({
    ...frame, n_recruits: recruits.map(({ also }) => also.length), n_survivors: survivors.map(({ also }) => also.length),
  }));
  const header = { ...rest, frames: light, values: values.map(({ index }) => index) };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const arrays = [Uint32Array.of(text.length), text, sentOrder, pruned];
  for (const { recruits, survivors } of frames) {
    recruits.forEach((marks, c) => arrays.push(marks.indices, marks.also, survivors[c].indices, survivors[c].also));
  }
  for (const one of values) arrays.push(Buffer.concat(one.values));
  const bytes = arrays.filter(Boolean).map((array) => {
    const raw = Buffer.from(array.buffer, array.byteOffset, array.byteLength);
    return Buffer.concat([raw, Buffer.alloc((4 - (raw.length % 4)) % 4)]);
  });
  const whole = Uint8Array.from(Buffer.concat([Buffer.alloc(shift), ...bytes]));
  return whole.subarray(shift);
}
