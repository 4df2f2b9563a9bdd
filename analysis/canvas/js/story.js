// The story in three sentences, for whoever has read nothing: what was removed, what came back, where it moved.
// Turns a snapshot into words and numbers; knows nothing of the canvas.

import { node, setText } from "./dom.js";
import { countMarks, frameName, momentOf } from "./snapshots.js";
import { formatCount, formatMeasured, percent } from "./text.js";

/** @import { Chrome, Frame, Measured, OpenStore, Story, StoryPart, Told } from "./types" */

/** @type {(chrome: Chrome) => Story} */
export function buildStory(chrome) {
  /** @type {(glyph: string, title: string) => Record<keyof Told, HTMLElement>} */
  const block = (glyph, title) => {
    const item = node("div", "block");
    const [value, detail] = [node("b", "value", ""), node("span", "detail", "")];
    const head = node("span", "label", title);
    if (glyph) head.prepend(node("i", `glyph ${glyph}`));
    item.append(head, value, detail);
    chrome.story.append(item);
    return { value, detail };
  };
  return { removed: block("scar", "Removed"), back: block("", "Came back"), moved: block("recruit", "Moved") };
}

/** @type {[StoryPart, (store: OpenStore, frame: Frame) => Told][]} */
const STATEMENTS = [["removed", removedText], ["back", backText], ["moved", movedText]];

/** @type {(story: Story, store: OpenStore, frame: Frame) => void} */
export function tellStory(story, store, frame) {
  for (const [part, told] of STATEMENTS) {
    const { value, detail } = told(store, frame);
    setText(story[part].value, value);
    setText(story[part].detail, detail);
  }
}

/** @type {(store: OpenStore, frame: Frame) => Told} */
export function removedText({ scene, pruned }, frame) {
  const all = scene.n_layers * scene.n_neurons;
  const share = (pruned.length / all) * 100;
  return {
    value: pruned.length ? `${formatCount(pruned.length)} neurons` : "nothing",
    detail: pruned.length
      ? `${frame.phase === "base" ? "will be " : ""}${scene.edit_label}: ${share.toFixed(share < 1 ? 2 : 1)}% of all`
      : "no neuron was edited by itself",
  };
}

/**
 * Of what the edit took, on what was never retrained: nothing reminded the model of it.
 * @type {(store: OpenStore, frame: Frame) => Told}
 */
export function backText(store, frame) {
  const [base, edited] = [momentOf(store, "base"), momentOf(store, "edited")];
  const moments = new Set([base, edited, frame].filter((one) => one !== undefined));
  const path = [...moments].map((one) => formatMeasured(one.held_out)).join(" \u2192 ");
  const detail = `${store.scene.task.measure} on ${store.scene.task.held_out}: ${path}`;
  const [before, after] = [base?.held_out ?? null, edited?.held_out ?? null];
  if (frame.phase !== "training") return { value: frame.phase === "base" ? "not removed yet" : "nothing yet", detail };
  if (before === null || after === null || before - after <= 0.005 || frame.held_out === null) {
    return { value: "nothing was lost", detail };
  }
  const back = (frame.held_out - after) / (before - after);
  return { value: back >= 1 ? "all that was lost" : `${percent(Math.max(0, back))} of what was lost`, detail };
}

/**
 * Of the first concept: shift of its centre since the edit, what the control shifted, and where its recruits are.
 * @type {(store: OpenStore, frame: Frame) => Told}
 */
export function movedText(store, frame) {
  const edited = momentOf(store, "edited") ?? store.frames[0];
  const shift = difference(frame.centre[0], edited.centre[0]);
  if (frame.phase !== "training") return { value: "\u2013", detail: "counted from the moment after the edit" };
  const recruits = frame.recruits[0];
  const layers = bulkOfLayers(recruits.cells, store.scene.n_neurons);
  const where = recruits.cells.length
    ? `${formatCount(recruits.cells.length)} new neurons carry it, half of them in ${layers}` : "No new neuron carries it yet";
  if (shift === null) return { value: "not measured", detail: where };
  const ghost = difference(frame.ghost?.centre[0], store.control[0]?.centre[0]);
  const versus = ghost === null ? "" : `; without any edit: ${towards(ghost)}`;
  return { value: towards(shift), detail: `centre of mass, since the edit${versus}. ${where}` };
}

/** @type {(now: Measured | undefined, then: Measured | undefined) => Measured} */
const difference = (now, then) => ((now ?? null) === null || (then ?? null) === null ? null : Number(now) - Number(then));

/** @type {(shift: number) => string} */
function towards(shift) {
  if (Math.abs(shift) < 0.005) return "0.00 layers";
  return `${Math.abs(shift).toFixed(2)} layers ${shift > 0 ? "later" : "earlier"}`;
}

/**
 * Between which layers the middle half lies.
 * @type {(cells: ArrayLike<number>, n_neurons: number) => string}
 */
export function bulkOfLayers(cells, n_neurons) {
  const layers = Array.from(cells, (cell) => Math.floor(cell / n_neurons)).sort((a, b) => a - b);
  if (!layers.length) return "";
  /** @type {(share: number) => number} */
  const at = (share) => layers[Math.round(share * (layers.length - 1))];
  const [low, high] = [at(0.25), at(0.75)];
  return low === high ? `layer ${low}` : `layers ${low}\u2013${high}`;
}

/** @type {(store: OpenStore, frame: Frame) => string} */
export function summarize(store, frame) {
  return `${frameName(frame)}: retrained ${formatMeasured(frame.retrained)}, `
    + `never retrained ${formatMeasured(frame.held_out)}, ${countMarks(frame.recruits)} recruits`;
}

/**
 * Everything about one step in a sentence or two, for a screen reader.
 * @type {(store: OpenStore, frame: Frame) => string}
 */
export function spoken(store, frame) {
  const { back, moved } = { back: backText(store, frame), moved: movedText(store, frame) };
  return `${summarize(store, frame)}. Came back: ${back.value}. Moved: ${moved.value}, ${moved.detail}. `
    + `Loss on neutral text ${formatMeasured(frame.neutral_loss)} nats per token.`;
}
