// What the pointer is told: about a cell, a layer, a lane or a moment. Lines of text; knows nothing of the canvas.

import { node } from "./dom.js";
import { NO_CHANGE, NO_OTHER, unitValue } from "./message.js";
import { MARK_KINDS, byteAt, flowOf, frameName, nameOf, neuronAt, shownIndex } from "./snapshots.js";
import { formatUnit, signText, visible } from "./text.js";

/** @import { Chrome, Frame, MarkKind, Measured, OpenStore, Scene } from "./types" */

/** @type {(store: OpenStore, playhead: number, cell: number) => string[]} */
export function describeCell(store, playhead, cell) {
  const { scene } = store;
  const { layer, neuron, rank } = neuronAt(store, cell);
  const index = shownIndex(playhead);
  const frame = store.frames[index];
  const previous = store.frames[index - 1];
  const lines = [`L${layer}.N${neuron}`, ...wordLines(store, frame, cell)];
  if (!store.plainIndex) lines.push(`rank ${rank + 1} of ${scene.n_neurons} in its layer before the edit`);
  scene.concepts.forEach(({ title }, c) => {
    const role = roleIn(store, frame, c, cell);
    if (!frame.values) {
      lines.push(`${title}${role}: on its way`);
      return;
    }
    const value = unitValue(scene, byteAt(store, frame.values[c], cell));
    const moved = previous?.values ? value - unitValue(scene, byteAt(store, previous.values[c], cell)) : null;
    lines.push(`${title}${role}: ${resolved(scene, value, scene.signed)}`
      + (moved === null ? "" : ` (${resolved(scene, moved, true)} since the snapshot before)`));
  });
  if (store.isPruned.has(cell)) lines.push(frame.phase === "base" ? `to be ${scene.edit_label}` : scene.edit_label);
  lines.push(`${scene.unit}; click for its card`);
  return lines;
}

/** @type {Record<MarkKind, string>} */
const ROLES = { recruits: ", recruit", survivors: ", survivor that gained" };

/** @type {(store: OpenStore, frame: Frame, c: number, cell: number) => string} */
function roleIn(store, frame, c, cell) {
  for (const kind of MARK_KINDS) {
    const { cells, also } = frame[kind][c];
    const at = cells.indexOf(cell);
    if (at < 0) continue;
    return ROLES[kind] + (also[at] === NO_OTHER ? "" : `, also carries ${store.scene.tracked[also[at]]}`);
  }
  return "";
}

/** @type {(store: OpenStore, frame: Frame, cell: number) => string[]} */
function wordLines(store, frame, cell) {
  const f = store.followed.indexOf(cell);
  if (f < 0 || !frame.words[f]?.length) return [];
  const now = frame.words[f].map(visible).join(", ");
  const before = (store.frames[0].words[f] ?? []).map(visible).join(", ");
  return now === before ? [`words: ${now}`] : [`words now: ${now}`, `before the edit: ${before}`];
}

/**
 * No more digits than a byte can tell apart.
 * @type {(scene: Scene, value: number, withSign: boolean) => string}
 */
function resolved(scene, value, withSign) {
  const step = unitValue(scene, NO_CHANGE + 1) - unitValue(scene, NO_CHANGE);
  const decimals = Math.min(8, Math.max(0, Math.ceil(-Math.log10(step))));
  return signText((withSign && value > 0 ? "+" : "") + value.toFixed(decimals));
}

/** @type {(value: number) => string} */
const signed = (value) => (value > 0 ? "+" : "") + formatUnit(value);

/** @type {(store: OpenStore, playhead: number, layer: number) => string[]} */
export function describeLayer(store, playhead, layer) {
  const frame = store.frames[shownIndex(playhead)];
  const lines = [`layer ${layer}`];
  store.scene.concepts.forEach(({ title }, c) => {
    const value = frame.layer_change[c][layer];
    const control = frame.ghost?.layer_change[c][layer] ?? null;
    lines.push(`${title}: ${value === null ? "not measured" : signed(value)}`
      + (control === null ? "" : `, control ${signed(control)}`));
  });
  return [...lines, `change of summed saliency since ${store.scene.since}`];
}

/** @type {(store: OpenStore, playhead: number, layer: number) => string[]} */
export function describeFlow(store, playhead, layer) {
  const frame = store.frames[shownIndex(playhead)];
  const lines = [`layer ${layer}`];
  store.scene.concepts.forEach(({ title }, c) => {
    let [given, taken] = [0, 0];
    for (const [start, end, share] of flowOf(frame)[c] ?? []) {
      if (start === layer) given += share;
      if (end === layer) taken += share;
    }
    const says = given > taken ? `gave ${(given * 100).toFixed(2)}%` : `received ${(taken * 100).toFixed(2)}%`;
    lines.push(`${title}: ${says} of all mass`);
  });
  return [...lines, `least-cost transport between layers since ${store.scene.since}${frame.net ? ", net of the control" : ""}`];
}

/** @type {(frame: Frame, scene: Scene) => string[]} */
export function describeMoment(frame, { concepts, task }) {
  /** @type {(value: Measured, digits: number) => string} */
  const number = (value, digits) => (value === null ? "not measured" : value.toFixed(digits));
  return [frameName(frame),
    `${task.measure}: retrained ${number(frame.retrained, 3)}, never retrained ${number(frame.held_out, 3)}`,
    `neutral loss ${number(frame.neutral_loss, 3)} nats per token`,
    ...concepts.map(({ title }, c) => `${title}: centre at layer ${number(frame.centre[c], 2)}, `
      + `moved ${number(frame.distance[c], 2)} layers`)];
}

/** @type {(store: OpenStore, frame: Frame, f: number) => string[]} */
export function describeLane(store, frame, f) {
  const cell = store.followed[f];
  const score = frame.followed[0]?.[f] ?? null;
  const similarity = frame.similarity[f];
  const lines = [`${nameOf(store, cell)}, ${frameName(frame)}`, ...wordLines(store, frame, cell)];
  if (similarity !== null && similarity !== undefined) {
    lines.push(`similarity of its words to those before: ${signText(similarity.toFixed(2))}`);
  }
  if (score !== null) lines.push(`${score.toFixed(2)} times what carrying ${store.scene.concepts[0].title} takes`);
  return [...lines, "click for its card"];
}

/** @type {(chrome: Chrome, lines: string[], x: number, y: number) => void} */
export function showTooltip({ tooltip, root }, lines, x, y) {
  tooltip.replaceChildren(...lines.map((text, i) => node(i ? "span" : "b", "", text)));
  tooltip.hidden = false;
  const left = x + 16 + tooltip.offsetWidth > root.clientWidth ? x - 16 - tooltip.offsetWidth : x + 16;
  tooltip.style.transform = `translate(${Math.max(0, left)}px, ${y + 16}px)`;
}
