// Brings the page up to date with the view: what is drawn in every frame, what only when it is stale.
// Knows the order of drawing; what the picture looks like is up to the files that draw.

import { drawBars, drawBarsStill } from "./bars.js";
import { showCard } from "./card.js";
import { showMoment, showPlayer } from "./chrome.js";
import { contextOf, setText } from "./dom.js";
import { drawFlow, drawFlowStill } from "./flow.js";
import { drawLaneFocus, drawLanesStill } from "./lanes.js";
import { computeLayout } from "./layout.js";
import { buildLegend } from "./legend.js";
import { drawChosen, drawCrosshair, drawMarks } from "./marks.js";
import { createScars, drawMap, drawMapStill } from "./neuron_map.js";
import { buildPalette, readTheme, themeSignature } from "./palette.js";
import { isMoving, isRunning } from "./player.js";
import { createSurface, paintCells, rasterOf } from "./raster.js";
import { around, frameName, shownIndex } from "./snapshots.js";
import { isOpen } from "./store.js";
import { drawTimes, drawTimesStill } from "./timeline.js";
import { showTooltip } from "./tooltip.js";
import { isHeld, nearestHeld } from "./value_budget.js";

/** @import { Context, Layout, OpenStore, PreparedView, Theme, View } from "./types" */

/** @type {(view: View) => void} */
export function render(view) {
  const { chrome, store, playhead, following, speed } = view;
  const count = store.frames.length;
  const index = count ? shownIndex(playhead) : -1;
  const playing = isRunning(view) && isMoving(view);
  Object.assign(chrome.root.dataset, { frames: count, index, playing, held: store.held });
  setText(chrome.status, store.status);
  showPlayer(chrome, { playing, following, speed, live: store.live, count, playhead });
  chrome.waiting.hidden = count > 0;
  if (!prepare(view) || !count) return;
  if (view.shown !== index) showMoment(chrome, view.counters, view.story, view.store, view.store.frames[index]);
  view.shown = index;
  drawMoving(view);
  showHover(view, index);
}

/** @type {(view: PreparedView, index: number) => void} */
function showHover(view, index) {
  const { chrome, hover, pointer } = view;
  if (!hover) chrome.tooltip.hidden = true;
  const tip = hover ? `${index} ${pointer.x} ${pointer.y}` : "";
  if (hover && tip !== view.tip) showTooltip(chrome, hover.lines(), pointer.x, pointer.y);
  view.tip = tip;
}

/**
 * Brings everything that is not redrawn in every frame up to date; false while there is no scene or no width.
 * @type {(view: View) => view is PreparedView}
 */
function prepare(view) {
  const { store, width } = view;
  if (!isOpen(store) || width < 1) return false;
  const dpr = window.devicePixelRatio || 1;
  const theme = themeOf(view);
  if (!view.layout || view.layout.dpr !== dpr || view.layout.width !== width) rebuild(view, store, theme, dpr);
  if (!isBuilt(view)) return false;
  if (view.stillStale) drawStill(view);
  view.stillStale = false;
  return true;
}

/** @type {(view: View) => view is PreparedView} */
const isBuilt = (view) => isOpen(view.store) && view.layout !== null && view.palette !== null;

/**
 * The page's theme, read again only where it may have changed; another one makes the layout stale.
 * @type {(view: View) => Theme}
 */
function themeOf(view) {
  if (view.theme && view.themeRead) return view.theme;
  const theme = readTheme(view.chrome.root);
  if (themeSignature(theme) !== themeSignature(view.theme)) view.layout = null;
  Object.assign(view, { theme, themeRead: true });
  return theme;
}

/**
 * What depends on size, theme or scene.
 * @type {(view: View, store: OpenStore, theme: Theme, dpr: number) => void}
 */
function rebuild(view, store, theme, dpr) {
  const { chrome, width } = view;
  const { n_layers, n_neurons } = store.scene;
  const lanes = store.frames.some(({ words }) => words.some((one) => one.length)) ? store.followed.length : 0;
  const layout = computeLayout({ width, dpr, n_layers, n_neurons, lanes });
  const palette = buildPalette(theme, store.scene, dpr);
  Object.assign(view, {
    layout, palette, surface: createSurface(layout), scars: createScars(layout, palette, store),
    counters: buildLegend(chrome, store, palette), shown: -1, drawn: null, stillStale: true,
  });
  chrome.stage.style.height = `${layout.height}px`;
  for (const canvas of [chrome.still, chrome.moving]) {
    canvas.width = Math.round(width * dpr);
    canvas.height = Math.round(layout.height * dpr);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${layout.height}px`;
  }
  showCard(view);
}

/** @type {(view: PreparedView) => void} */
function drawStill({ chrome, layout, palette, store }) {
  const context = begin(chrome.still, layout);
  drawMapStill(context, layout, palette, store);
  if (!store.frames.length) return;
  drawFlowStill(context, layout, palette, store);
  drawBarsStill(context, layout, palette, store);
  drawTimesStill(context, layout, palette, store);
  drawLanesStill(context, layout, palette, store);
}

/** @type {(view: PreparedView) => void} */
function drawMoving(view) {
  const { chrome, layout, palette, store, surface, playhead, hover } = view;
  paint(view);
  const context = begin(chrome.moving, layout);
  drawMap(context, surface, view.scars, layout, store, playhead);
  drawMarks(context, layout, palette, store, playhead, view.motion.matches);
  drawFlow(context, layout, palette, store, playhead);
  drawBars(context, layout, palette, store, playhead);
  drawTimes(context, layout, palette, store, playhead);
  if (view.chosenCell !== null) drawChosen(context, layout, palette, view.chosenCell);
  if (hover?.cell !== undefined) drawCrosshair(context, layout, palette, hover.cell);
  if (hover?.lane !== undefined) drawLaneFocus(context, layout, palette, hover.lane);
}

/**
 * The cells, if the playhead moved. What is not here yet is not made up: the nearest snapshot stands in, and says so.
 * @type {(view: PreparedView) => void}
 */
function paint(view) {
  const { chrome, layout, palette, store, surface, playhead } = view;
  if (view.drawn === playhead) return;
  const { from, to, t } = around(store.frames, playhead);
  const rest = t === 0 || t < 1e-6;
  const ready = isHeld(from) && (rest || isHeld(to));
  const shown = ready ? from : nearestHeld(store, shownIndex(playhead));
  chrome.fetching.hidden = ready;
  if (!ready) setText(chrome.fetching, `fetching ${frameName(store.frames[shownIndex(playhead)])} \u2026`);
  if (!shown) return;
  const next = ready && !rest && isHeld(to) ? to : shown;
  const planes = rasterOf(store, layout, shown);
  paintCells(surface, layout, palette, planes, next === shown ? planes : rasterOf(store, layout, next), rest ? 0 : t);
  view.drawn = ready ? playhead : null;
}

/** @type {(canvas: HTMLCanvasElement, layout: Layout) => Context} */
function begin(canvas, { dpr, width, height }) {
  const context = contextOf(canvas);
  context.setTransform(dpr, 0, 0, dpr, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
