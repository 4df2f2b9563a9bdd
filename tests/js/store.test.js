import assert from "node:assert/strict";
import { test } from "node:test";

import { byteAt, nameOf, neuronAt } from "../../analysis/canvas/js/snapshots.js";
import { absorb, createStore, isOpen } from "../../analysis/canvas/js/store.js";
import { makeCurve, makeDelta, makeFrame, makeMarks, makeMessage, makeScene, makeStore, makeValues } from "./small_run.js";

const frames = (count) => Array.from({ length: count }, (_, index) => makeFrame(index));

test("a store is open once the scene has arrived", () => {
  const store = createStore();
  assert.equal(isOpen(store), false);
  absorb(store, makeMessage([]));
  assert.equal(isOpen(store), true);
});

test("news are appended, and what is held already is not taken twice", () => {
  const store = makeStore(frames(2));
  const { restarted } = absorb(store, makeDelta(1, [makeFrame(1), makeFrame(2)]));
  assert.equal(restarted, false);
  assert.deepEqual(store.frames.map(({ index }) => index), [0, 1, 2]);
});

test("a message that starts beyond what is held is dropped", () => {
  const store = makeStore(frames(1));
  absorb(store, makeDelta(2, [makeFrame(2)]));
  assert.equal(store.frames.length, 1);
});

test("another epoch, or fewer snapshots than are held, drop everything", () => {
  const store = makeStore(frames(3));
  assert.equal(absorb(store, makeMessage(frames(1), { epoch: "run#2|capitals" })).restarted, true);
  assert.deepEqual([store.epoch, store.frames.length, store.held], ["run#2|capitals", 1, 1]);
  assert.equal(absorb(store, makeMessage([], { epoch: "run#2|capitals" })).restarted, true);
  assert.equal(store.frames.length, 0);
});

test("a run that is continued gets more steps", () => {
  const store = makeStore(frames(1));
  absorb(store, makeDelta(1, [], { scene: makeScene({ total_steps: 25 }) }));
  assert.equal(store.scene.total_steps, 25);
});

test("neurons become cells in the order of their layer", () => {
  const store = makeStore(frames(1));
  assert.deepEqual([...store.pruned], [1, 12]);               // neuron 1 of the backwards layer 1 has rank 5
  assert.deepEqual([...store.followed], [0, 13]);
  assert.deepEqual(neuronAt(store, 12), { layer: 1, neuron: 1, rank: 5 });
  assert.equal(nameOf(store, 14), "L2.N2");
  assert.equal(store.plainIndex, false);
  const values = Uint8Array.from({ length: 21 }, (_, index) => index);
  assert.equal(byteAt(store, values, 12), 8);
});

test("marks know their age and whether they stay", () => {
  const marked = [[1, 9], [9, 12], [9, 12]].map((neurons, i) => makeFrame(i, { recruits: makeMarks(neurons) }));
  const found = makeStore(marked).frames.map(({ recruits: [{ age, stays }] }) => ({ age: [...age], stays: [...stays] }));
  assert.deepEqual(found, [
    { age: [0, 0], stays: [0, 1] }, { age: [1, 0], stays: [1, 1] }, { age: [2, 1], stays: [1, 1] },
  ]);
});

test("words stand until they change", () => {
  const told = [[["a"], ["b"]], [null, ["c"]], [["d"], null]];
  const store = makeStore(told.map((words, i) => makeFrame(i, { words })));
  assert.deepEqual(store.frames.map(({ words }) => words), [[["a"], ["b"]], [["a"], ["c"]], [["d"], ["c"]]]);
  assert.equal(store.frames[1].words[0], store.frames[0].words[0]);
});

test("the control is read between its snapshots, and nowhere beyond them", () => {
  const control = [makeCurve(1, { centre: [1] }), makeCurve(3, { centre: [2] })];
  const store = makeStore(frames(6), { control });
  const centres = store.frames.map(({ ghost }) => ghost && ghost.centre[0]);
  assert.deepEqual(centres, [1, 1, 1, 1.5, 2, null]);
});

test("a control that was not measured leaves a gap", () => {
  const control = [makeCurve(1, { centre: [null] }), makeCurve(3, { centre: [2] })];
  assert.equal(makeStore(frames(4), { control }).frames[3].ghost.centre[0], null);
});

test("the net flow takes the place of the flow once the control is there", () => {
  const store = makeStore(frames(2));
  absorb(store, makeDelta(2, [], { net: { 1: [[[1, 0, 0.25]]], 9: [[]] } }));
  assert.deepEqual(store.frames.map(({ net }) => net), [null, [[[1, 0, 0.25]]]]);
});

test("values that come later are held once", () => {
  const store = makeStore(frames(2), { values: [] });
  absorb(store, makeDelta(2, [], { values: [makeValues(1), makeValues(1), makeValues(7)] }));
  assert.deepEqual([store.held, store.frames.map(({ values }) => values !== null)], [1, [false, true]]);
});

test("axes reach over the run and its control, without the base once training has begun", () => {
  const base = makeFrame(0, { layer_change: [[-9, 0, 0]], centre: [0.5], flow: [[[0, 1, 0.5], [0, 2, 0.2]]] });
  const before = makeStore([base]).extent;
  assert.equal(before.change, 9);
  const store = makeStore([base, makeFrame(1), makeFrame(2, { layer_change: [[0, 2, null]], centre: [null] })], {
    control: [makeCurve(1, { layer_change: [[0, -3, 0]], centre: [1.5], neutral_loss: 5 })],
  });
  assert.deepEqual([store.extent.change, store.extent.centre, store.extent.loss], [3, [0.5, 1.5], [4, 5]]);
  assert.equal(store.extent.flow, 0.7);
});

test("what was never measured has no range", () => {
  const store = makeStore([makeFrame(0, { centre: [null] })]);
  assert.equal(store.extent.centre, null);
});
