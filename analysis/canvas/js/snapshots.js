// Reads single values out of snapshots, and what lies between two of them.
// A "cell" is a drawing position: layer * N + rank, rank 0 being the leftmost neuron of its layer.

/** @import { Frame, MarkKind, Marks, Measured, OpenStore, Phase, Ribbon, Sample, Store } from "./types" */

/** @type {MarkKind[]} */
export const MARK_KINDS = ["recruits", "survivors"];

/** @type {(store: OpenStore, cell: number) => { layer: number, neuron: number, rank: number }} */
export const neuronAt = ({ order, scene: { n_neurons } }, cell) =>
  ({ layer: Math.floor(cell / n_neurons), neuron: order[cell], rank: cell % n_neurons });

/** @type {(store: OpenStore, cell: number) => string} */
export const nameOf = (store, cell) => {
  const { layer, neuron } = neuronAt(store, cell);
  return `L${layer}.N${neuron}`;
};

/**
 * A cell's byte in one snapshot's values, which are in the order of the neurons.
 * @type {(store: OpenStore, values: Uint8Array, cell: number) => number}
 */
export const byteAt = ({ order, scene: { n_neurons } }, values, cell) =>
  values[cell - (cell % n_neurons) + order[cell]];

/**
 * Time of a snapshot on one axis: the base lies before the edit, which is step 0.
 * @type {(moment: { phase: Phase, step: number }) => number}
 */
export const timeOf = ({ phase, step }) => (phase === "base" ? -1 : step);

/** @type {(frame: Pick<Frame, "net" | "flow">) => Ribbon[][]} */
export const flowOf = (frame) => frame.net ?? frame.flow;

/**
 * @overload
 * @param {number} a
 * @param {number} b
 * @param {number} t
 * @returns {number}
 */
/**
 * @overload
 * @param {Measured} a
 * @param {Measured} b
 * @param {number} t
 * @returns {Measured}
 */
/**
 * What lies between two values; null where one of them was not measured.
 * @param {Measured} a
 * @param {Measured} b
 * @param {number} t
 * @returns {Measured}
 */
export function mix(a, b, t) {
  return a === null || b === null ? null : a + (b - a) * t;
}

/**
 * The two snapshots around a playhead and how far it is between them.
 * @type {(frames: Frame[], playhead: number) => Sample}
 */
export function around(frames, playhead) {
  const index = Math.min(Math.floor(playhead), frames.length - 1);
  const next = Math.min(index + 1, frames.length - 1);
  return { from: frames[index], to: frames[next], t: next === index ? 0 : playhead - index };
}

/** @type {(playhead: number) => number} */
export const shownIndex = (playhead) => Math.round(playhead);

/** @type {(store: Store, phase: Phase) => Frame | undefined} */
export const momentOf = ({ frames }, phase) => frames.find((frame) => frame.phase === phase);

/** @type {(moment: { phase: Phase, step: number }) => string} */
export function frameName({ phase, step }) {
  if (phase === "base") return "before the edit";
  return phase === "edited" ? "just after the edit" : `step ${step}`;
}

/** @type {(perConcept: Marks[]) => number} */
export const countMarks = (perConcept) => perConcept.reduce((sum, marks) => sum + marks.cells.length, 0);
