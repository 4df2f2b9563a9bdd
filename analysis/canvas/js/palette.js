// Colours: the page's theme, one hue a concept, tables from a byte to a colour, glowing sprites.
// Knows the theme variables of the page; knows nothing of snapshots or geometry.
// A cell is ink on a page: a gain is written in the concept's hue, a loss is scraped down to the
// bare page. Gain and loss therefore leave the neutral grey in opposite directions of lightness.

import { contextOf } from "./dom.js";
import { NO_CHANGE } from "./message.js";

/** @import { Context, Palette, Ramp, Rgb, Scene, Sprite, Theme } from "./types" */

// Okabe-Ito, told apart under the common colour blindnesses; per theme the variant with contrast.
// A concept's hue goes by its place among all tracked ones, so it keeps it whichever are shown.
const HUES = {
  dark: ["#E69F00", "#56B4E9", "#CC79A7", "#2CC295", "#F0E442", "#E8743B", "#9AA7FF"],
  light: ["#D55E00", "#0072B2", "#B0508C", "#00795A", "#8A7500", "#3C9BD6", "#5B4FB3"],
};

const GAIN_GAMMA = 0.8;          // lifts small gains out of the grey; the legend shows the same ramp
const LOSS_GAMMA = 0.7;

/** @type {Context | undefined} */
let scratch;

/** @type {(text: string, fallback: string) => Rgb} */
function parseColor(text, fallback) {
  scratch ??= contextOf(document.createElement("canvas"), { willReadFrequently: true });
  scratch.clearRect(0, 0, 1, 1);
  scratch.fillStyle = fallback;
  scratch.fillStyle = text;       // ignored by the canvas if it is not a colour
  scratch.fillRect(0, 0, 1, 1);
  return [...scratch.getImageData(0, 0, 1, 1).data].slice(0, 3);
}

/** @type {(a: Rgb, b: Rgb, t: number) => Rgb} */
const blend = (a, b, t) => a.map((channel, i) => channel + (b[i] - channel) * t);

/** @type {(rgb: Rgb, alpha?: number) => string} */
export const css = (rgb, alpha = 1) => `rgba(${rgb.map(Math.round).join(",")},${alpha})`;

/** @type {(rgb: Rgb) => number} */
const lightness = ([r, g, b]) => (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;

/** @type {(element: Element) => Theme} */
export function readTheme(element) {
  const style = getComputedStyle(element);
  /** @type {(name: string) => string} */
  const read = (name) => style.getPropertyValue(name).trim();
  const page = parseColor(read("--st-background-color"), "#ffffff");
  return {
    page,
    text: parseColor(read("--st-text-color"), lightness(page) < 0.5 ? "#fafafa" : "#31333f"),
    font: read("--st-font") || "sans-serif",
    dark: lightness(page) < 0.5,
  };
}

/** @type {(theme: Theme | null) => string} */
export const themeSignature = (theme) => JSON.stringify(theme);

/** @type {(theme: Theme, scene: Scene, dpr: number) => Palette} */
export function buildPalette(theme, scene, dpr) {
  const { page, text, dark } = theme;
  const cell = dark ? blend(page, [150, 170, 200], 0.17) : blend(page, [70, 90, 120], 0.17);
  const bare = dark ? blend(page, [0, 0, 0], 0.75) : [255, 255, 255];
  const all = HUES[dark ? "dark" : "light"].map((hue) => parseColor(hue, hue));
  /** @type {(place: number) => Rgb} */
  const hueOf = (place) => all[place % all.length];
  const hues = scene.concepts.map(({ place }) => hueOf(place));
  const ramps = hues.map((hue) => gainRamp(cell, hue, dark));
  const tables = ramps.map((ramp) => changeTable(ramp, cell, bare, scene));
  return {
    ...theme, cell: cell.map(Math.round), hues, hueOf, ramps, tables,
    colors: packColors(tables[0], cell.map(Math.round)),
    lost: dark ? [112, 128, 150] : [138, 150, 166],
    ink: (alpha) => css(text, alpha),
    sprites: hues.map((hue) => glowSprite(hue, dark, dpr)),
    legend: ramps.map((ramp) => legendGradient(ramp, cell, bare, scene.signed)),
  };
}

/**
 * Lightness runs one way along the ramp, so that it also reads in greyscale.
 * @type {(cell: Rgb, hue: Rgb, dark: boolean) => Ramp}
 */
export function gainRamp(cell, hue, dark) {
  const tip = dark ? blend(hue, [255, 255, 255], 0.6) : blend(hue, [0, 0, 0], 0.4);
  /** @type {[number, Rgb][]} */
  const stops = [[0, cell], [0.4, blend(cell, hue, 0.62)], [0.75, hue], [1, tip]];
  return (gain) => {
    const t = gain ** GAIN_GAMMA;
    const right = Math.max(1, stops.findIndex(([at]) => at >= t));
    const [a, from] = stops[right - 1];
    const [b, to] = stops[right];
    return blend(from, to, (t - a) / (b - a));
  };
}

/**
 * Offsets from the neutral cell, three a byte: concepts blend by adding their offsets.
 * @type {(ramp: Ramp, cell: Rgb, bare: Rgb, scene: Pick<Scene, "signed" | "concepts">) => Int16Array}
 */
export function changeTable(ramp, cell, bare, { signed, concepts }) {
  const table = new Int16Array(256 * 3);
  for (let byte = 0; byte < 256; byte++) {
    const change = signed ? (byte - NO_CHANGE) / (255 - NO_CHANGE) : byte / 255;
    const color = change >= 0
      ? ramp(Math.min(1, change))
      : blend(cell, bare, Math.min(1, -change) ** LOSS_GAMMA / concepts.length);
    color.forEach((channel, i) => { table[byte * 3 + i] = Math.round(channel - cell[i]); });
  }
  return table;
}

/**
 * One concept alone needs no blending: a byte is a finished pixel (little endian: alpha, blue, green, red).
 * @type {(table: Int16Array, cell: Rgb) => Uint32Array}
 */
export function packColors(table, cell) {
  const colors = new Uint32Array(256);
  /** @type {(byte: number, i: number) => number} */
  const channel = (byte, i) => Math.max(0, Math.min(255, cell[i] + table[byte * 3 + i]));
  for (let byte = 0; byte < 256; byte++) {
    colors[byte] = (0xff000000 | (channel(byte, 2) << 16) | (channel(byte, 1) << 8) | channel(byte, 0)) >>> 0;
  }
  return colors;
}

/** @type {(ramp: Ramp, cell: Rgb, bare: Rgb, signed: boolean) => string} */
function legendGradient(ramp, cell, bare, signed) {
  const stops = [];
  for (let i = 0; i <= 12; i++) stops.push(css(ramp(i / 12)));
  if (signed) {
    for (let i = 1; i <= 12; i++) stops.unshift(css(blend(cell, bare, (i / 12) ** LOSS_GAMMA)));
  }
  return `linear-gradient(90deg, ${stops.join(",")})`;
}

// Drawn once and stamped: a radial gradient per mark and frame would cost the frame rate.
const GLOW_RADIUS = 9;

const DOT_RADIUS = 2.4;

/** @type {(hue: Rgb, dark: boolean, dpr: number) => { halo: Sprite, dot: Sprite }} */
function glowSprite(hue, dark, dpr) {
  /** @type {(radius: number, draw: (context: Context) => void) => Sprite} */
  const stamp = (radius, draw) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = Math.ceil(radius * 2 * dpr);
    const context = contextOf(canvas);
    context.scale(canvas.width / (radius * 2), canvas.height / (radius * 2));
    context.translate(radius, radius);
    draw(context);
    return { canvas, radius };
  };
  const halo = stamp(GLOW_RADIUS, (context) => {
    const gradient = context.createRadialGradient(0, 0, 1, 0, 0, GLOW_RADIUS);
    const strength = dark ? 1 : 0.6;      // on a light page a full halo reads as a disc
    for (const [at, alpha] of [[0, 0.85], [0.3, 0.42], [0.6, 0.13], [1, 0]]) {
      gradient.addColorStop(at, css(hue, alpha * strength));
    }
    context.fillStyle = gradient;
    context.fillRect(-GLOW_RADIUS, -GLOW_RADIUS, GLOW_RADIUS * 2, GLOW_RADIUS * 2);
  });
  const dot = stamp(DOT_RADIUS + 1.2, (context) => {
    disc(context, DOT_RADIUS + 0.9, dark ? css(blend(hue, [0, 0, 0], 0.55)) : "#fff");
    disc(context, DOT_RADIUS, css(hue));
    if (dark) disc(context, DOT_RADIUS * 0.55, "#fff");     // a pale core on light would read as a ring
  });
  return { halo, dot };
}

/** @type {(context: Context, radius: number, fill: string) => void} */
function disc(context, radius, fill) {
  context.fillStyle = fill;
  context.beginPath();
  context.arc(0, 0, radius, 0, Math.PI * 2);
  context.fill();
}
