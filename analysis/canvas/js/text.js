// How numbers and words are written on screen: signs, units, counts, visible spaces.

/** @import { Measured } from "./types" */

/** @type {(text: string) => string} */
export const signText = (text) => text.replace("-", "\u2212");

/** @type {(value: Measured) => string} */
export const formatMeasured = (value) => (value === null ? "not measured" : value.toFixed(2));

/** @type {(count: number) => string} */
export const formatCount = (count) => count.toLocaleString("en-US");

/** @type {(value: number) => string} */
export function formatUnit(value) {
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(1) : Number(value.toPrecision(3)).toString();
  return signText(text);
}

/** @type {(share: number) => string} */
export const percent = (share) => `${Math.round(share * 100)}%`;

/**
 * Spaces and line ends inside a word are shown, not drawn as gaps.
 * @type {(word: string) => string}
 */
export const visible = (word) => word.replace(/\n/g, "\u21b5").replace(/\t/g, "\u21e5");
