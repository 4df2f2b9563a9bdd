// Beside the map, on its layer axis: what moved between layers as ribbons, and how each layer's mass changed as bars.
// Each has a still part (axes) and a moving part. Knows nothing of the page or of how time passes.

const RIBBON_PITCHES = 2.4;       // the thickest bundle of ribbons, in layers' height

// ---- ribbons: the transport plan from the moment after the edit (left) to the playhead (right) --------------------

function drawFlowStill(context, layout, palette, store) {
  const { flow } = layout;
  const netted = store.frames.some((frame) => frame.net);
  writeHeading(context, palette, "Flow between layers", "", flow.x, flow.y - 14);
  if (layout.stacked) drawLayerNumbers(context, layout, palette, flow);
  for (const x of [flow.x, flow.x + flow.w]) line(context, x, flow.y, x, flow.y + flow.h, palette.ink(0.3));
  const below = flow.y + flow.h + 13;
  const start = store.scene.since === "the edit" ? "after the edit" : "before";
  write(context, palette, start, flow.x, below, { alpha: 0.6 });
  write(context, palette, "now", flow.x + flow.w, below, { align: "right", alpha: 0.6 });
  write(context, palette, netted ? "net of the control" : "without a control", flow.x, below + 14, { alpha: 0.6 });
}

// Shares of the two plans around the playhead, mixed, in the order of the layers they leave.
function ribbonsAt(from, to, c, t) {
  const shares = new Map();
  const add = (frame, weight) => {
    for (const [start, end, share] of flowOf(frame)[c] ?? []) {
      const key = start * 65536 + end;
      shares.set(key, (shares.get(key) ?? 0) + share * weight);
    }
  };
  add(from, 1 - t);
  if (t > 0) add(to, t);
  return [...shares].sort(([a], [b]) => a - b)
    .map(([key, share]) => ({ start: Math.floor(key / 65536), end: key % 65536, share }));
}

function drawFlow(context, layout, palette, store, playhead) {
  const { flow, n_layers } = layout;
  const { from, to, t } = around(store.frames, playhead);
  const thickness = (RIBBON_PITCHES * flow.pitch) / (store.extent.flow || 1);
  // Bundles are centred on their layer, but the first and the last layer's stay inside the axes.
  const bottom = (layer, height) => Math.min(flow.y + flow.h,
    Math.max(flow.y + height, layerY(flow, n_layers, layer) + height / 2));
  let moved = 0;
  store.scene.concepts.forEach((_, c) => {
    const ribbons = ribbonsAt(from, to, c, t);
    const [given, taken] = [new Float64Array(n_layers), new Float64Array(n_layers)];
    for (const { start, end, share } of ribbons) {
      given[start] += share;
      taken[end] += share;
      if (!c) moved += share;
    }
    const fade = context.createLinearGradient(flow.x, 0, flow.x + flow.w, 0);
    fade.addColorStop(0, css(palette.lost, 0.35));
    fade.addColorStop(0.45, css(palette.hues[c], 0.4));
    fade.addColorStop(1, css(palette.hues[c], 0.85));
    context.fillStyle = fade;
    // Higher layers lie higher in a bundle, so ribbons cross as little as can be.
    const [left, right] = [given, taken].map((sums) => sums.map((sum, layer) => bottom(layer, sum * thickness)));
    for (const { start, end, share } of ribbons) {
      const height = share * thickness;
      left[start] -= height;
      right[end] -= height;
      ribbon(context, flow.x, left[start], flow.x + flow.w, right[end], height);
    }
  });
  const share = moved * 100;
  write(context, palette, `${share.toFixed(share < 10 ? 1 : 0)}% moved`, flow.x + flow.w, flow.y + flow.h + 27,
    { align: "right", alpha: 0.9 });
}

function ribbon(context, x1, y1, x2, y2, height) {
  const middle = (x1 + x2) / 2;
  context.beginPath();
  context.moveTo(x1, y1);
  context.bezierCurveTo(middle, y1, middle, y2, x2, y2);
  context.lineTo(x2, y2 + height);
  context.bezierCurveTo(middle, y2 + height, middle, y1 + height, x1, y1 + height);
  context.closePath();
  context.fill();
}

// ---- bars: change of each layer's mass -------------------------------------------------------------------------

const barScale = ({ bars }, store) => {
  const limit = niceCeil(store.extent.change);
  return { limit, x: (value) => bars.x + bars.w / 2 + (value / limit) * (bars.w / 2) };
};

function drawBarsStill(context, layout, palette, store) {
  const { bars } = layout;
  const { limit, x } = barScale(layout, store);
  writeHeading(context, palette, "Change by layer", "", bars.x, bars.y - 14);
  for (const share of [-1, 0, 1]) {
    line(context, x(share * limit), bars.y, x(share * limit), bars.y + bars.h, palette.ink(share ? 0.1 : 0.35));
    const align = share < 0 ? "left" : share > 0 ? "right" : "center";
    const text = share ? `${share > 0 ? "+" : "\u2212"}${Number(limit.toPrecision(3))}` : "0";
    write(context, palette, text, x(share * limit), bars.y + bars.h + 13, { align });
  }
  const note = store.control.length ? "outline: control" : "summed saliency";
  write(context, palette, note, bars.x + bars.w / 2, bars.y + bars.h + 27, { align: "center", alpha: 0.6 });
}

function drawBars(context, layout, palette, store, playhead) {
  const { bars, n_layers } = layout;
  const { limit, x } = barScale(layout, store);
  const { from, to, t } = around(store.frames, playhead);
  const concepts = store.scene.concepts.length;
  const thickness = bars.row / concepts;
  const zero = x(0);
  const cut = (value) => Math.max(-limit, Math.min(limit, value));
  for (let layer = 0; layer < n_layers; layer++) {
    for (let c = 0; c < concepts; c++) {
      const top = layerTop(bars, n_layers, layer) + c * thickness;
      const value = mix(from.layer_change[c][layer], to.layer_change[c][layer], t);
      const ghost = from.ghost && to.ghost && mix(from.ghost.layer_change[c][layer], to.ghost.layer_change[c][layer], t);
      if (value !== null) {
        context.fillStyle = value >= 0 ? css(palette.hues[c]) : css(palette.lost);
        const inset = Math.min(1.5, thickness * 0.15);
        fillBar(context, zero, x(cut(value)), top + inset, thickness - 2 * inset);
        if (Math.abs(value) > limit) drawCut(context, palette, x(cut(value)), top, thickness, value);
      }
      if (ghost !== null) {
        context.strokeStyle = palette.ink(0.5);
        context.lineWidth = 1;
        const end = x(cut(ghost));
        context.strokeRect(Math.min(zero, end), top + 0.5, Math.abs(end - zero), Math.max(0, thickness - 1));
      }
    }
  }
}

const fillBar = (context, x1, x2, y, height) =>
  context.fillRect(Math.min(x1, x2), y, Math.abs(x2 - x1), Math.max(1, height));

// A bar beyond the axis is cut off, and says so.
function drawCut(context, palette, x, top, height, value) {
  const sign = Math.sign(value);
  context.fillStyle = css(palette.page);
  for (const shift of [4, 8]) context.fillRect(x - sign * shift - 1, top, 2, height);
}
