import assert from "node:assert/strict";
import { test } from "node:test";

import { decodeMessage, unitValue } from "../../analysis/canvas/js/message.js";
import { encode, makeDelta, makeFrame, makeMarks, makeMessage, makeScene, makeValues } from "./small_run.js";

test("a message is read back as it was written, also where it is not aligned", () => {
  const frames = [makeFrame(0), makeFrame(1, { recruits: makeMarks([3, 20, 9], [1, 255, 0]), survivors: makeMarks([5]) })];
  const sent = makeMessage(frames, { values: [makeValues(1, 77)] });
  for (const shift of [0, 1, 3]) {
    const read = decodeMessage(encode(sent, shift));
    assert.deepEqual([...read.order], [...sent.order]);
    assert.deepEqual([...read.pruned], [1, 8]);
    assert.deepEqual([...read.frames[1].recruits[0].indices], [3, 20, 9]);
    assert.deepEqual([...read.frames[1].recruits[0].also], [1, 255, 0]);
    assert.deepEqual([...read.frames[1].survivors[0].indices], [5]);
    assert.equal(read.frames[0].recruits[0].indices.length, 0);
    assert.deepEqual(read.values.map(({ index }) => index), [1]);
    assert.ok(read.values[0].values[0].every((byte) => byte === 77));
  }
});

test("a message that is no first one brings no arrays of the scene", () => {
  const read = decodeMessage(encode(makeDelta(4, [makeFrame(4)])));
  assert.equal(read.order, undefined);
  assert.equal(read.frames[0].step, 3);
});

test("values of several concepts are told apart", () => {
  const concepts = [{ name: "a", title: "A", place: 0 }, { name: "b", title: "B", place: 1 }];
  const marks = [...makeMarks([]), ...makeMarks([])];
  const values = [new Uint8Array(21).fill(1), new Uint8Array(21).fill(2)];
  const message = makeMessage([makeFrame(0, { recruits: marks, survivors: marks })], {
    scene: makeScene({ concepts }), values: [{ index: 0, values }],
  });
  assert.deepEqual(decodeMessage(encode(message)).values[0].values.map((of) => of[20]), [1, 2]);
});

test("what is decoded keeps nothing of the message in memory", () => {
  const bytes = encode(makeMessage([makeFrame(0)]));
  const read = decodeMessage(bytes);
  assert.notEqual(read.order.buffer, bytes.buffer);
  assert.notEqual(read.values[0].values[0].buffer, bytes.buffer);
});

test("a byte stands for a change around 128, or for a level from 0", () => {
  const change = makeScene();
  assert.deepEqual([128, 255].map((byte) => unitValue(change, byte)), [0, 0.5]);
  assert.ok(unitValue(change, 1) < -0.49);
  const level = makeScene({ signed: false });
  assert.deepEqual([0, 255].map((byte) => unitValue(level, byte)), [0, 0.5]);
});
