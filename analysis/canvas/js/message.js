// Decodes a message of the server into typed arrays; the format is described in wire.py.
// Knows bytes; knows nothing of what arrived before.

/** @import { Header, MarkKind, Message, Scene, SentMarks } from "./types" */

export const NO_CHANGE = 128;          // the byte that means "as it was", in change mode
export const NO_OTHER = 255;           // the byte that means "carries no other concept"

/** @type {(bytes: Uint8Array) => Message} */
export function decodeMessage(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = view.getUint32(0, true);
  /** @type {Header} */
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + headerLength)));
  let offset = 4 + padded(headerLength);
  /**
   * Copied: typed arrays need alignment, and a view would keep the whole message in memory.
   * @type {<T>(Type: { new (buffer: ArrayBuffer): T, BYTES_PER_ELEMENT: number }, length: number) => T}
   */
  const take = (Type, length) => {
    const size = length * Type.BYTES_PER_ELEMENT;
    const copy = new Type(bytes.slice(offset, offset + size).buffer);
    offset += padded(size);
    return copy;
  };
  /** @type {(length: number) => SentMarks} */
  const takeMarks = (length) => ({ indices: take(Uint32Array, length), also: take(Uint8Array, length) });
  const { n_layers, n_neurons, n_pruned, concepts } = header.scene;
  const n_cells = n_layers * n_neurons;
  const sceneArrays = header.start === 0
    ? { order: take(Uint16Array, n_cells), pruned: take(Uint32Array, n_pruned) } : {};
  const frames = header.frames.map((frame) => {
    /** @type {Record<MarkKind, SentMarks[]>} */
    const marks = { recruits: [], survivors: [] };
    concepts.forEach((_, c) => {
      marks.recruits.push(takeMarks(frame.n_recruits[c]));
      marks.survivors.push(takeMarks(frame.n_survivors[c]));
    });
    return { ...frame, ...marks };
  });
  const values = header.values.map((index) => {
    const all = take(Uint8Array, concepts.length * n_cells);
    return { index, values: concepts.map((_, c) => all.subarray(c * n_cells, (c + 1) * n_cells)) };
  });
  return { ...header, ...sceneArrays, frames, values };
}

/** @type {(length: number) => number} */
const padded = (length) => Math.ceil(length / 4) * 4;

/**
 * A byte of the wire in the unit of the scene.
 * @type {(scene: Scene, byte: number) => number}
 */
export const unitValue = ({ signed, full_scale }, byte) =>
  signed ? ((byte - NO_CHANGE) / (255 - NO_CHANGE)) * full_scale : (byte / 255) * full_scale;
