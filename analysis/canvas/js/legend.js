// The legend: each mark explained where it is counted.

import { node } from "./dom.js";
import { css } from "./palette.js";
import { formatCount, formatUnit } from "./text.js";

/** @import { Chrome, Concept, Counters, OpenStore, Palette, Scene } from "./types" */

/** @type {(chrome: Chrome, store: OpenStore, palette: Palette) => Counters} */
export function buildLegend(chrome, store, palette) {
  const { scene } = store;
  const several = scene.concepts.length > 1;
  const items = scene.concepts.map((concept, c) => rampEntry(concept, c, scene, palette));
  /** @type {(glyph: string, label: string, sentence: string) => HTMLElement} */
  const entry = (glyph, label, sentence) => {
    const item = node("li", "entry");
    const counts = node("span", "counts");
    const words = node("span", "words");
    words.append(node("b", "", label), node("small", "", sentence));
    item.append(node("i", `glyph ${glyph}`), counts, words);
    items.push(item);
    return counts;
  };
  /** @type {(counts: HTMLElement) => HTMLElement[]} */
  const perConcept = (counts) => scene.concepts.map((_, c) => {
    const number = node("span", "count", "0");
    if (several) number.style.color = css(palette.ramps[c](0.8));
    counts.append(number);
    return number;
  });
  entry("scar", scene.edit_label, "the scars of the edit")
    .append(node("span", "count", formatCount(scene.n_pruned)));
  const counters = {
    recruits: perConcept(entry("recruit", "recruits", "newly carry the concept")),
    survivors: perConcept(entry("survivor", "survivors", "carried it, still do, and gained")),
  };
  if (scene.tracked.length > 1) items.push(othersEntry(scene, palette));
  if (several) {
    items.push(node("li", "note", palette.dark ? "pale where concepts share a neuron" : "dark where concepts share a neuron"));
  }
  chrome.legend.replaceChildren(...items);
  // With several concepts the glyphs explain the shape alone, in ink.
  const glyph = css(several ? palette.text : palette.hues[0]);
  chrome.root.style.setProperty("--glyph", glyph);
  chrome.root.style.setProperty("--glyph-core", palette.dark && !several ? "#fff" : glyph);
  return counters;
}

/** @type {(concept: Concept, c: number, scene: Scene, palette: Palette) => HTMLElement} */
function rampEntry({ title }, c, scene, palette) {
  const formatted = formatUnit(scene.full_scale);
  const item = node("li", "scale");
  const bar = node("span", "ramp");
  bar.style.background = palette.legend[c];
  const ends = node("span", "ends");
  const marks = scene.signed ? [`\u2212${formatted}`, "no change", `+${formatted}`] : ["0", formatted];
  ends.append(...marks.map((mark) => node("span", "", mark)));
  const name = node("span", "concept", title);
  name.style.setProperty("--hue", css(palette.hues[c]));
  const column = node("span", "column");
  column.append(bar, ends);
  item.append(name, column);
  return item;
}

/**
 * Rings in the hues of the other tracked concepts: what a recruit carries beside this one.
 * @type {(scene: Scene, palette: Palette) => HTMLElement}
 */
function othersEntry({ tracked, concepts }, palette) {
  const item = node("li", "entry");
  const words = node("span", "words");
  const names = node("b");
  tracked.forEach((title, place) => {
    if (concepts.length === 1 && concepts[0].place === place) return;
    const name = node("span", "other", title);
    name.style.setProperty("--hue", css(palette.hueOf(place)));
    names.append(name);
  });
  words.append(names, node("small", "", "ring: a recruit that carries this, too"));
  item.append(words);
  return item;
}
