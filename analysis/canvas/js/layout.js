// Geometry: where the panels lie, how large a cell is, which cell or layer lies under a point.
// Pure functions of sizes; knows nothing of the page, of colours or of a canvas.

/** @import { Grid, LayerPanel, Layout, MapPanel, PanelName, Rect, Sides } from "./types" */

const STACK_BELOW = 700;          // narrower than this, flow and bars go under the map
const GUTTER = 84;                // left of everything, wide enough for "layer 29 (last)"
const TITLE = 28;                 // a panel's title line
const AXIS = 26;                  // an x axis with its numbers
const MAP_HEIGHT = 480;           // aimed at; the cells' whole pixels decide
const MAX_SUB_ROWS = 64;
const RIGHT_MARGIN = 14;
const SIDE_GAP = 20;
const STACKED_SIDE_HEIGHT = 250;
export const LANE_HEIGHT = 25;

/** @type {[PanelName, number][]} */
const TIME_PANELS = [["answer", 128], ["centre", 62], ["distance", 50], ["loss", 44]];

/** @type {(size: { width: number, dpr: number, n_layers: number, n_neurons: number, lanes: number }) => Layout} */
export function computeLayout({ width, dpr, n_layers, n_neurons, lanes }) {
  const stacked = width < STACK_BELOW;
  /** @type {(value: number) => number} */
  const snap = (value) => Math.round(value * dpr) / dpr;
  const flowWidth = stacked ? 0 : snap(Math.max(124, Math.min(200, width * 0.14)));
  const barsWidth = stacked ? 0 : snap(Math.max(96, Math.min(150, width * 0.11)));
  const sides = stacked ? RIGHT_MARGIN : flowWidth + barsWidth + 2 * SIDE_GAP + RIGHT_MARGIN;
  const map = { ...fitCells(width - GUTTER - sides, dpr, n_layers, n_neurons), x: GUTTER, y: TITLE };
  const { flow, bars } = stacked
    ? sidesBelow(map, width, n_layers, snap) : sidesBeside(map, flowWidth, barsWidth, width - GUTTER - map.w - sides, snap);
  let y = snap(flow.y + flow.h + AXIS + 14);
  const timeWidth = width - GUTTER - RIGHT_MARGIN;
  const times = TIME_PANELS.map(([name, h]) => {
    const panel = { name, x: GUTTER, y: y + TITLE, w: timeWidth, h };
    y += TITLE + h;
    return panel;
  });
  const axisY = y + 4;
  y += AXIS + 18;
  const lanesPanel = { x: GUTTER, y: y + TITLE, w: timeWidth, h: lanes * LANE_HEIGHT, count: lanes };
  const height = lanes ? lanesPanel.y + lanesPanel.h + 10 : y;
  return { width, height, dpr, stacked, n_layers, n_neurons, map, flow, bars, times, axisY, lanes: lanesPanel };
}

/**
 * Flow and bars under the map, side by side.
 * @type {(map: Rect, width: number, n_layers: number, snap: (value: number) => number) => Sides}
 */
function sidesBelow(map, width, n_layers, snap) {
  const y = map.y + map.h + AXIS + 20 + TITLE;
  const half = snap((width - GUTTER - RIGHT_MARGIN - SIDE_GAP) / 2);
  const pitch = STACKED_SIDE_HEIGHT / n_layers;
  const rows = { y, h: STACKED_SIDE_HEIGHT, pitch, row: pitch * 0.8, w: half };
  return { flow: { ...rows, x: GUTTER }, bars: { ...rows, x: GUTTER + half + SIDE_GAP } };
}

/**
 * Flow and bars on the map's layer axis; they share what the whole pixels of its cells leave over.
 * @type {(map: MapPanel, flowWidth: number, barsWidth: number, spare: number, snap: (value: number) => number) => Sides}
 */
function sidesBeside(map, flowWidth, barsWidth, spare, snap) {
  const rows = { y: map.y, h: map.h, pitch: map.pitch, row: map.row };
  const flow = { ...rows, x: snap(map.x + map.w + SIDE_GAP), w: snap(flowWidth + spare * 0.6) };
  const bars = { ...rows, x: snap(flow.x + flow.w + SIDE_GAP), w: snap(barsWidth + spare * 0.4) };
  return { flow, bars };
}

/**
 * A layer is a band of sub-rows, filled column by column, so that x still orders the neurons.
 * Cells are whole device pixels: fractional ones would make some neurons look larger than others.
 * @type {(available: number, dpr: number, n_layers: number, n_neurons: number) => Omit<MapPanel, "x" | "y">}
 */
function fitCells(available, dpr, n_layers, n_neurons) {
  const widthPx = Math.floor(available * dpr);
  const heightPx = MAP_HEIGHT * dpr;
  /** @type {Grid | null} */
  let best = null;
  let bestScore = 0;
  for (let subRows = 1; subRows <= MAX_SUB_ROWS; subRows++) {
    const columns = Math.ceil(n_neurons / subRows);
    const cellW = Math.floor(widthPx / columns);
    // One sub-row more than cells: the empty one separates the bands.
    const cellH = Math.max(1, Math.round(heightPx / (n_layers * (subRows + 1))));
    const height = (cellH * n_layers * (subRows + 1)) / heightPx;
    if (cellW < 1 || height > 1.3) continue;
    const used = (columns * cellW) / widthPx;
    const squareness = Math.min(cellW, cellH) / Math.max(cellW, cellH);
    const score = used * squareness ** 0.3 * Math.min(height, 1 / height) ** 0.5;
    if (best && score <= bestScore) continue;
    [best, bestScore] = [{ subRows, columns, cellW, cellH, group: 1 }, score];
  }
  return measureCells(best ?? sharedPixels(widthPx, heightPx, n_layers, n_neurons), dpr, n_layers);
}

/**
 * More neurons than device pixels: one pixel stands for several neighbours in the order (see raster.js).
 * @type {(widthPx: number, heightPx: number, n_layers: number, n_neurons: number) => Grid}
 */
function sharedPixels(widthPx, heightPx, n_layers, n_neurons) {
  const subRows = Math.max(1, Math.floor(heightPx / n_layers) - 1);
  const group = Math.ceil(n_neurons / (Math.max(1, widthPx) * subRows));
  return { subRows, group, columns: Math.ceil(Math.ceil(n_neurons / group) / subRows), cellW: 1, cellH: 1 };
}

/** @type {(grid: Grid, dpr: number, n_layers: number) => Omit<MapPanel, "x" | "y">} */
function measureCells({ subRows, columns, cellW, cellH, group }, dpr, n_layers) {
  return {
    subRows, columns, cellW, cellH, group,
    imageRows: n_layers * (subRows + 1) - 1,
    w: (columns * cellW) / dpr,
    h: ((n_layers * (subRows + 1) - 1) * cellH) / dpr,
    pitch: ((subRows + 1) * cellH) / dpr,
    row: (subRows * cellH) / dpr,
  };
}

/**
 * Layer 0 is the lowest band: what the model computes rises through the picture.
 * @type {(panel: LayerPanel, n_layers: number, layer: number) => number}
 */
export const layerTop = (panel, n_layers, layer) => panel.y + (n_layers - 1 - layer) * panel.pitch;

/** @type {(panel: LayerPanel, n_layers: number, layer: number) => number} */
export const layerY = (panel, n_layers, layer) => layerTop(panel, n_layers, layer) + panel.row / 2;

/** @type {(layout: Layout, cell: number) => { x: number, y: number }} */
export function cellCentre({ map, dpr, n_layers, n_neurons }, cell) {
  const place = Math.floor((cell % n_neurons) / map.group);
  const column = Math.floor(place / map.subRows);
  const top = layerTop(map, n_layers, Math.floor(cell / n_neurons));
  return {
    x: map.x + ((column + 0.5) * map.cellW) / dpr,
    y: top + (((place % map.subRows) + 0.5) * map.cellH) / dpr,
  };
}

/**
 * The first cell of those that share the pixel under the pointer.
 * @type {(layout: Layout, x: number, y: number) => number | null}
 */
export function cellAt({ map, dpr, n_layers, n_neurons }, x, y) {
  if (!inside(map, x, y)) return null;
  const layer = layerAt(map, n_layers, y);
  const subRow = Math.floor(((y - layerTop(map, n_layers, layer)) * dpr) / map.cellH);
  const column = Math.floor(((x - map.x) * dpr) / map.cellW);
  const rank = (column * map.subRows + Math.min(subRow, map.subRows - 1)) * map.group;
  return rank < n_neurons ? layer * n_neurons + rank : null;
}

/** @type {(panel: LayerPanel, n_layers: number, y: number) => number} */
export const layerAt = (panel, n_layers, y) =>
  Math.min(n_layers - 1, Math.max(0, n_layers - 1 - Math.floor((y - panel.y) / panel.pitch)));

/** @type {(rect: Rect, x: number, y: number, margin?: number) => boolean} */
export const inside = (rect, x, y, margin = 0) =>
  x >= rect.x - margin && x < rect.x + rect.w + margin && y >= rect.y - margin && y < rect.y + rect.h + margin;
