import assert from "node:assert/strict";
import { test } from "node:test";

import {
  advance, changeSpeed, followLatest, isMoving, isRunning, isStarved, onArrival, seek, stepBack, stepForward, togglePlay,
} from "../../analysis/canvas/js/player.js";

// A player of so many snapshots, whose values are all there but for those in `missing`.
function makePlayer(count, changes = {}, missing = []) {
  const frames = Array.from({ length: count }, (_, index) => ({ values: missing.includes(index) ? null : [] }));
  return {
    store: { frames, live: false }, playhead: 0, playing: false, following: false, rest: 0, pending: 0, speed: 1,
    started: true, clock: 0, motion: { matches: false }, ...changes,
  };
}

function play(view, milliseconds, tick = 20) {
  for (let now = 1000; now <= 1000 + milliseconds; now += tick) {
    if (isMoving(view)) advance(view, now);
    else view.clock = 0;
  }
}

test("at speed 1 a snapshot takes 700 ms, at speed 2 half of that", () => {
  for (const [speed, playhead] of [[1, 1], [2, 2]]) {
    const view = makePlayer(5, { playing: true, speed });
    play(view, 700);
    assert.ok(Math.abs(view.playhead - playhead) < 1e-9, `${view.playhead}`);
  }
});

test("playing ends on the last snapshot", () => {
  const view = makePlayer(3, { playing: true });
  play(view, 5000);
  assert.deepEqual([view.playhead, view.playing, isMoving(view)], [2, false, false]);
});

test("a hidden tab does not come back with a leap", () => {
  const view = makePlayer(50, { playing: true });
  advance(view, 1000);
  advance(view, 61_000);
  assert.ok(view.playhead < 0.2);
});

test("a pause lets the playhead come to rest on the next whole number", () => {
  const view = makePlayer(5, { playing: true });
  play(view, 400);
  togglePlay(view);
  assert.equal(isRunning(view), false);
  play(view, 2000);
  assert.equal(view.playhead, 1);
});

test("the playhead waits for values that are on their way", () => {
  const view = makePlayer(5, { playing: true }, [2]);
  play(view, 5000);
  assert.equal(view.playhead, 1);
  assert.equal(isStarved(view), true);
  view.store.frames[2].values = [];
  play(view, 5000);
  assert.equal(view.playhead, 4);
});

test("at the end, play begins again", () => {
  const view = makePlayer(4, { playhead: 3 });
  togglePlay(view);
  assert.deepEqual([view.playhead, view.playing], [0, true]);
});

test("following a live run plays the last snapshots and skips what is further back", () => {
  const view = makePlayer(20, { playhead: 2, following: true });
  view.store.live = true;
  advance(view, 1000);
  assert.equal(view.playhead, 16);
  play(view, 5000);
  assert.deepEqual([view.playhead, view.following], [19, true]);
});

test("a live run that was played to its end is followed", () => {
  const view = makePlayer(3, { playing: true });
  view.store.live = true;
  play(view, 5000);
  assert.equal(view.following, true);
});

test("with less motion the playhead jumps from snapshot to snapshot at the same pace", () => {
  const view = makePlayer(4, { playing: true, motion: { matches: true } });
  const seen = new Set();
  for (let now = 1000; now < 4000; now += 20) {
    if (isMoving(view)) advance(view, now);
    seen.add(view.playhead);
  }
  assert.deepEqual([...seen], [0, 1, 2, 3]);
});

test("seeking stops, and stays within the run", () => {
  const view = makePlayer(4, { playing: true, following: true });
  seek(view, 9);
  assert.deepEqual([view.playhead, view.playing, view.following], [3, false, false]);
  seek(view, -1);
  assert.equal(view.playhead, 0);
});

test("steps go to whole numbers, also from in between", () => {
  const view = makePlayer(6, { playhead: 2.4 });
  stepForward(view);
  assert.equal(view.playhead, 3);
  view.playhead = 2.4;
  stepBack(view);
  assert.equal(view.playhead, 2);
});

test("only a live run can be followed", () => {
  const view = makePlayer(6);
  followLatest(view, true);
  assert.deepEqual([view.playhead, view.following], [5, false]);
  view.store.live = true;
  followLatest(view, true);
  assert.equal(view.following, true);
});

test("speed stays within what is offered", () => {
  const view = makePlayer(2);
  const speeds = [1, 1, 1, -1, -1, -1, -1].map((by) => {
    changeSpeed(view, by);
    return view.speed;
  });
  assert.deepEqual(speeds, [2, 4, 4, 2, 1, 0.5, 0.5]);
});

test("a finished run plays once from its beginning, and an update leaves the playhead where it is", () => {
  const view = makePlayer(5, { started: false });
  onArrival(view);
  assert.deepEqual([view.playing, view.playhead], [true, 0]);
  seek(view, 3);
  onArrival(view);
  assert.deepEqual([view.playing, view.playhead], [false, 3]);
});

test("with less motion a finished run starts at its end", () => {
  const view = makePlayer(5, { started: false, motion: { matches: true } });
  onArrival(view);
  assert.deepEqual([view.playing, view.playhead], [false, 4]);
});

test("a live run is followed from its newest snapshot, and played out when it ends", () => {
  const view = makePlayer(5, { started: false });
  view.store.live = true;
  onArrival(view);
  assert.deepEqual([view.following, view.playhead], [true, 4]);
  view.store.live = false;
  view.store.frames.push({ values: [] });
  onArrival(view);
  play(view, 3000);
  assert.deepEqual([view.following, view.playing, view.playhead], [false, false, 5]);
});
