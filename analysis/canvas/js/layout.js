// Geometry: where the panels lie, how large a cell is, what a pointer position means.
// Pure functions of sizes and ranges; knows nothing of the page, of colours or of a canvas.

const STACK_BELOW = 700;          // narrower than this, flow and bars go under the map
const GUTTER = 84;                // left of everything, wide enough for "layer 29 (last)"
const TITLE = 28;                 // a panel's title line
const AXIS = 26;                  // an x axis with its numbers
const MAP_HEIGHT = 480;           // aimed at; the cells' whole pixels decide
const MAX_SUB_ROWS = 64;
const RIGHT_MARGIN = 14;
const SIDE_GAP = 20;
const STACKED_SIDE_HEIGHT = 250;
const TIME_PANELS = [["answer", 128], ["centre", 62], ["distance", 50], ["loss", 44]];
const LANE_HEIGHT = 25;

function computeLayout({ width, dpr, n_layers, n_neurons, lanes }) {
  const stacked = width < STACK_BELOW;
  const snap = (value) => Math.round(value * dpr) / dpr;
  const flowWidth = stacked ? 0 : snap(Math.max(124, Math.min(200, width * 0.14)));
  const barsWidth = stacked ? 0 : snap(Math.max(96, Math.min(150, width * 0.11)));
  const sides = stacked ? RIGHT_MARGIN : flowWidth + barsWidth + 2 * SIDE_GAP + RIGHT_MARGIN;
  const map = { ...fitCells(width - GUTTER - sides, dpr, n_layers, n_neurons), x: GUTTER, y: TITLE };
  const layout = { width, dpr, stacked, n_layers, n_neurons, map };
  if (stacked) {
    const y = map.y + map.h + AXIS + 20 + TITLE;
    const half = snap((width - GUTTER - RIGHT_MARGIN - SIDE_GAP) / 2);
    const pitch = STACKED_SIDE_HEIGHT / n_layers;
    const rows = { y, h: STACKED_SIDE_HEIGHT, pitch, row: pitch * 0.8, w: half };
    layout.flow = { ...rows, x: GUTTER };
    layout.bars = { ...rows, x: GUTTER + half + SIDE_GAP };
  } else {
    const rows = { y: map.y, h: map.h, pitch: map.pitch, row: map.row };
    const spare = width - GUTTER - map.w - sides;      // what whole pixels left over
    layout.flow = { ...rows, x: snap(map.x + map.w + SIDE_GAP), w: snap(flowWidth + spare * 0.6) };
    layout.bars = { ...rows, x: snap(layout.flow.x + layout.flow.w + SIDE_GAP), w: snap(barsWidth + spare * 0.4) };
  }
  let y = snap(layout.flow.y + layout.flow.h + AXIS + 14);
  const timeWidth = width - GUTTER - RIGHT_MARGIN;
  layout.times = TIME_PANELS.map(([name, h]) => {
    const panel = { name, x: GUTTER, y: y + TITLE, w: timeWidth, h };
    y += TITLE + h;
    return panel;
  });
  layout.axisY = y + 4;
  y += AXIS + 18;
  layout.lanes = { x: GUTTER, y: y + TITLE, w: timeWidth, h: lanes * LANE_HEIGHT, count: lanes };
  layout.height = lanes ? layout.lanes.y + layout.lanes.h + 10 : y;
  return layout;
}

// A layer is a band of sub-rows, filled column by column, so that x still orders the neurons.
// Cells are whole device pixels: fractional ones would make some neurons look larger than others.
function fitCells(available, dpr, n_layers, n_neurons) {
  const widthPx = Math.floor(available * dpr);
  const heightPx = MAP_HEIGHT * dpr;
  let best = null;
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
    if (!best || score > best.score) best = { score, subRows, columns, cellW, cellH, group: 1 };
  }
  return measureCells(best ?? sharedPixels(widthPx, heightPx, n_layers, n_neurons), dpr, n_layers);
}

// More neurons than device pixels: one pixel stands for several neighbours in the order (see raster.js).
function sharedPixels(widthPx, heightPx, n_layers, n_neurons) {
  const subRows = Math.max(1, Math.floor(heightPx / n_layers) - 1);
  const group = Math.ceil(n_neurons / (Math.max(1, widthPx) * subRows));
  return { subRows, group, columns: Math.ceil(Math.ceil(n_neurons / group) / subRows), cellW: 1, cellH: 1 };
}

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

// Layer 0 is the lowest band: what the model computes rises through the picture.
const layerTop = (panel, n_layers, layer) => panel.y + (n_layers - 1 - layer) * panel.pitch;
const layerY = (panel, n_layers, layer) => layerTop(panel, n_layers, layer) + panel.row / 2;

function cellCentre({ map, dpr, n_layers, n_neurons }, cell) {
  const place = Math.floor((cell % n_neurons) / map.group);
  const column = Math.floor(place / map.subRows);
  const top = layerTop(map, n_layers, Math.floor(cell / n_neurons));
  return {
    x: map.x + ((column + 0.5) * map.cellW) / dpr,
    y: top + (((place % map.subRows) + 0.5) * map.cellH) / dpr,
  };
}

// The first cell of those that share the pixel under the pointer.
function cellAt({ map, dpr, n_layers, n_neurons }, x, y) {
  if (!inside(map, x, y)) return null;
  const layer = layerAt(map, n_layers, y);
  const subRow = Math.floor(((y - layerTop(map, n_layers, layer)) * dpr) / map.cellH);
  const column = Math.floor(((x - map.x) * dpr) / map.cellW);
  const rank = (column * map.subRows + Math.min(subRow, map.subRows - 1)) * map.group;
  return rank < n_neurons ? layer * n_neurons + rank : null;
}

const layerAt = (panel, n_layers, y) =>
  Math.min(n_layers - 1, Math.max(0, n_layers - 1 - Math.floor((y - panel.y) / panel.pitch)));

const inside = (rect, x, y, margin = 0) =>
  x >= rect.x - margin && x < rect.x + rect.w + margin && y >= rect.y - margin && y < rect.y + rect.h + margin;

// The time axis of a panel: steps in proportion, the base set apart on the left.
const BASE_GAP = 0.085;

function timeScale(rect, frames, totalSteps) {
  const gap = frames[0]?.phase === "base" ? Math.min(64, Math.max(16, rect.w * BASE_GAP)) : 0;
  const last = Math.max(totalSteps, frames.at(-1)?.step ?? 0);
  const ofStep = (step) => rect.x + gap + (step / last) * (rect.w - gap);
  return { gap, ofStep, of: (frame) => (frame.phase === "base" ? rect.x : ofStep(frame.step)), last };
}

function playheadX(scale, frames, playhead) {
  const { from, to, t } = around(frames, playhead);
  return mix(scale.of(from), scale.of(to), t);
}

function nearestFrame(scale, frames, x) {
  let best = 0;
  frames.forEach((frame, i) => {
    if (Math.abs(scale.of(frame) - x) < Math.abs(scale.of(frames[best]) - x)) best = i;
  });
  return best;
}

function niceStep(span, count) {
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw * 0.999) * power;
}

function niceTicks(low, high, count) {
  const step = niceStep(high - low, count);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  return ticks;
}

const niceCeil = (value) => {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((factor) => factor * power >= value * 0.999) * power;
};

// A range widened a little, and never so narrow that noise would fill the panel.
function padRange([low, high], minSpan, share = 0.12) {
  const span = Math.max(high - low, minSpan);
  const middle = (low + high) / 2;
  return [middle - span * (0.5 + share), middle + span * (0.5 + share)];
}

// As many decimals as the distance between ticks needs.
function tickText(value, step) {
  let decimals = 0;
  while (decimals < 8 && Math.abs(step * 10 ** decimals % 1) > 1e-6
    && Math.abs(step * 10 ** decimals % 1) < 1 - 1e-6) decimals++;
  return signText(value.toFixed(decimals));
}

const signText = (text) => text.replace("-", "\u2212");
