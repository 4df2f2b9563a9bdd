// What is said on screen: the story, tooltips, files, formats of numbers.

import assert from "node:assert/strict";
import { test } from "node:test";

import { curvesAsCsv } from "../../analysis/canvas/js/export.js";
import { absorb } from "../../analysis/canvas/js/store.js";
import { backText, bulkOfLayers, movedText, removedText, spoken } from "../../analysis/canvas/js/story.js";
import { formatCount, formatMeasured, formatUnit, signText, visible } from "../../analysis/canvas/js/text.js";
import {
  describeCell, describeFlow, describeLane, describeLayer, describeMoment,
} from "../../analysis/canvas/js/tooltip.js";
import { makeCurve, makeDelta, makeFrame, makeMarks, makeScene, makeStore } from "./small_run.js";

const answers = (...held) => held.map((held_out, i) => makeFrame(i, { held_out }));

test("what was removed is counted, and before the edit it is still to come", () => {
  const store = makeStore([makeFrame(0), makeFrame(1)]);
  assert.deepEqual(removedText(store, store.frames[0]), { value: "2 neurons", detail: "will be pruned: 9.5% of all" });
  assert.equal(removedText(store, store.frames[1]).detail, "pruned: 9.5% of all");
  store.pruned = new Uint32Array();
  assert.equal(removedText(store, store.frames[1]).value, "nothing");
});

test("what came back is a share of what was lost on what was never retrained", () => {
  const store = makeStore(answers(0.9, 0.1, 0.5, 0.95, 0.05));
  const said = store.frames.map((frame) => backText(store, frame).value);
  assert.deepEqual(said,
    ["not removed yet", "nothing yet", "50% of what was lost", "all that was lost", "0% of what was lost"]);
  assert.equal(backText(store, store.frames[2]).detail, "P(answer) on other facts: 0.90 \u2192 0.10 \u2192 0.50");
});

test("where nothing was lost, or not measured, nothing came back", () => {
  for (const run of [answers(0.5, 0.5, 0.7), answers(null, 0.1, 0.7), answers(0.9, 0.1, null)]) {
    const store = makeStore(run);
    assert.equal(backText(store, store.frames[2]).value, "nothing was lost");
  }
});

test("where it moved is told beside what the control moved without any edit", () => {
  const centres = [1, 1, 1.5, 0.75].map((centre, i) => makeFrame(i, { centre: [centre] }));
  centres[2].recruits = makeMarks([0, 15, 16]);
  const control = [makeCurve(0), makeCurve(2, { centre: [1.2] })];
  const store = makeStore(centres, { control });
  assert.equal(movedText(store, store.frames[1]).value, "\u2013");
  const { value, detail } = movedText(store, store.frames[2]);
  assert.equal(value, "0.50 layers later");
  assert.match(detail, /since the edit; without any edit: 0\.10 layers later\. 3 new neurons carry it/);
  assert.equal(movedText(store, store.frames[3]).value, "0.25 layers earlier");
  assert.match(movedText(store, store.frames[3]).detail, /No new neuron carries it yet$/);
});

test("a centre that was not measured is said not to be", () => {
  const store = makeStore([makeFrame(0), makeFrame(1), makeFrame(2, { centre: [null] })]);
  assert.equal(movedText(store, store.frames[2]).value, "not measured");
  const control = [makeCurve(0), makeCurve(9, { centre: [null] })];
  const half = makeStore([makeFrame(0), makeFrame(1), makeFrame(2)], { control });
  assert.doesNotMatch(movedText(half, half.frames[2]).detail, /without any edit/);
});

test("the middle half of some neurons lies in these layers", () => {
  assert.equal(bulkOfLayers([], 7), "");
  assert.equal(bulkOfLayers([8, 9, 10], 7), "layer 1");
  assert.equal(bulkOfLayers([0, 7, 8, 9, 14, 15, 16, 20], 7), "layers 1\u20132");
});

test("a step is spoken in a sentence or two", () => {
  const store = makeStore(answers(0.9, 0.1, 0.5));
  assert.match(spoken(store, store.frames[2]),
    /^step 1: retrained 0\.50, never retrained 0\.50, 0 recruits\. Came back: 50% of what was lost\..*nats per token\.$/);
});

test("numbers have a real minus, few digits, and say where they are missing", () => {
  assert.equal(signText("-0.5"), "\u22120.5");
  assert.deepEqual([0, 1.23456, -0.02, 123456, 0.00012].map(formatUnit), ["0", "1.23", "\u22120.02", "1.2e+5", "1.2e\u22124"]);
  assert.equal(formatCount(12345), "12,345");
  assert.deepEqual([formatMeasured(null), formatMeasured(0.126)], ["not measured", "0.13"]);
  assert.equal(visible("a\nb\tc"), "a\u21b5b\u21e5c");
});

test("a cell is told by its name, its rank, its value and its change", () => {
  const values = [128, 191].map((fill, index) => ({ index, values: [new Uint8Array(21).fill(fill)] }));
  const store = makeStore([makeFrame(0), makeFrame(1, { recruits: makeMarks([8], [1]) })], { values });
  const lines = describeCell(store, 1, 12);
  assert.deepEqual(lines.slice(0, 2), ["L1.N1", "rank 6 of 7 in its layer before the edit"]);
  assert.equal(lines[2],
    "Capital cities, recruit, also carries Sports: +0.248 (+0.248 since the snapshot before)");
  assert.equal(lines[3], "pruned");
  assert.ok(describeCell(store, 0, 12).includes("to be pruned"));
});

test("values that are on their way are not made up", () => {
  const store = makeStore([makeFrame(0)], { values: [] });
  assert.ok(describeCell(store, 0, 3).includes("Capital cities: on its way"));
});

test("a layer is told by its change and by what it gave or received", () => {
  const flow = [[[0, 2, 0.1], [0, 1, 0.05], [1, 0, 0.02]]];
  const store = makeStore([makeFrame(0, { flow, layer_change: [[-1.5, null, 2]] })]);
  assert.equal(describeLayer(store, 0, 2)[1], "Capital cities: +2");
  assert.equal(describeLayer(store, 0, 1)[1], "Capital cities: not measured");
  assert.deepEqual([0, 2].map((layer) => describeFlow(store, 0, layer)[1]),
    ["Capital cities: gave 15.00% of all mass", "Capital cities: received 10.00% of all mass"]);
  assert.doesNotMatch(describeFlow(store, 0, 0).at(-1), /net of/);
  absorb(store, makeDelta(1, [], { net: { 0: [[[2, 0, 0.4]]] } }));
  assert.equal(describeFlow(store, 0, 0)[1], "Capital cities: received 40.00% of all mass");
  assert.match(describeFlow(store, 0, 0).at(-1), /net of the control$/);
});

test("a moment and a lane are told by what was measured there", () => {
  const frame = makeFrame(1, { held_out: null, words: [["red"], []], followed: [[1.5, 0]], similarity: [-0.25, null] });
  const store = makeStore([makeFrame(0, { words: [["blue"], []] }), frame]);
  assert.deepEqual(describeMoment(store.frames[1], store.scene).slice(0, 2),
    ["just after the edit", "P(answer): retrained 0.500, never retrained not measured"]);
  assert.deepEqual(describeLane(store, store.frames[1], 0), [
    "L0.N0, just after the edit", "words now: red", "before the edit: blue",
    "similarity of its words to those before: \u22120.25", "1.50 times what carrying Capital cities takes",
    "click for its card",
  ]);
});

test("curves as CSV have a row for each snapshot and each of the control, and as many cells as names", () => {
  const store = makeStore([makeFrame(0), makeFrame(1, { held_out: null, recruits: makeMarks([3, 4]) })], {
    control: [makeCurve(0)], epoch: 'run "one", again|capitals', scene: makeScene({ since: "the base" }),
  });
  const [head, ...rows] = curvesAsCsv(store).trimEnd().split("\n");
  assert.equal(rows.length, 3);
  assert.ok(head.includes("wasserstein_distance_of_capitals_since_the_base_layers"));
  assert.ok(rows[1].startsWith('"run ""one"", again",edited,0,0.5,,4,1,0,2,0,0,0,0'));
  assert.ok(rows[2].startsWith("control,training,0,"));
  assert.equal(rows[2].split(",").length, head.split(",").length);
});
