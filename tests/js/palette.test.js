import assert from "node:assert/strict";
import { test } from "node:test";

import { changeTable, css, gainRamp, packColors } from "../../analysis/canvas/js/palette.js";

const ORANGE = [230, 159, 0];
const THEMES = [
  { dark: true, cell: [34, 38, 46], bare: [4, 4, 6] },
  { dark: false, cell: [224, 228, 233], bare: [255, 255, 255] },
];
const light = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
const one = { signed: true, concepts: [{}] };
const colorAt = (table, cell, byte) => cell.map((channel, i) => channel + table[byte * 3 + i]);

test("lightness runs one way along a ramp, so that it reads in greyscale", () => {
  for (const { dark, cell } of THEMES) {
    const ramp = gainRamp(cell, dark ? ORANGE : [213, 94, 0], dark);
    const steps = Array.from({ length: 21 }, (_, i) => light(ramp(i / 20)));
    for (let i = 1; i < steps.length; i++) assert.ok(dark ? steps[i] > steps[i - 1] : steps[i] < steps[i - 1], `${i}`);
  }
});

test("no change is the neutral cell; gain and loss leave it in opposite directions of lightness", () => {
  for (const { dark, cell, bare } of THEMES) {
    const table = changeTable(gainRamp(cell, dark ? ORANGE : [213, 94, 0], dark), cell, bare, one);
    const [loss, none, gain] = [0, 128, 255].map((byte) => light(colorAt(table, cell, byte)));
    assert.equal(none, light(cell));
    assert.ok(dark ? loss < none && none < gain : loss > none && none > gain);
    assert.deepEqual(colorAt(table, cell, 0), bare);
  }
});

test("of a level, byte 0 is the neutral cell", () => {
  const [{ cell, bare }] = THEMES;
  const table = changeTable(gainRamp(cell, ORANGE, true), cell, bare, { ...one, signed: false });
  assert.deepEqual([...table.slice(0, 3)], [0, 0, 0]);
  assert.notDeepEqual([...table.slice(128 * 3, 129 * 3)], [0, 0, 0]);
});

test("several concepts that lose together scrape a cell no further than to the bare page", () => {
  const [{ cell, bare }] = THEMES;
  const table = changeTable(gainRamp(cell, ORANGE, true), cell, bare, { signed: true, concepts: [{}, {}, {}] });
  const blended = cell.map((channel, i) => channel + 3 * table[i]);
  blended.forEach((channel, i) => assert.ok(Math.abs(channel - bare[i]) <= 3));
});

test("a finished pixel is opaque, with its channels within bounds", () => {
  const table = new Int16Array(256 * 3);
  table.set([300, -300, 5], 3);
  const colors = packColors(table, [10, 20, 30]);
  assert.equal(colors[0], 0xff1e140a);
  assert.equal(colors[1], 0xff2300ff);
});

test("colours are written for the page", () => {
  assert.equal(css([1.4, 2.6, 255], 0.5), "rgba(1,3,255,0.5)");
  assert.equal(css([0, 0, 0]), "rgba(0,0,0,1)");
});
