// Snapshots: decoding a message, holding what has arrived, sampling between two snapshots.
// Knows the wire format (described in wire.py); knows nothing of the page or of drawing.
// A "cell" is a drawing position: layer * N + rank, rank 0 being the leftmost neuron of its layer.

const NO_CHANGE = 128;          // the byte that means "as it was", in change mode
const NO_OTHER = 255;           // the byte that means "carries no other concept"

function decodeMessage(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = view.getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + headerLength)));
  let offset = 4 + padded(headerLength);
  // Copied: typed arrays need alignment, and a view would keep the whole message in memory.
  const take = (Type, length) => {
    const size = length * Type.BYTES_PER_ELEMENT;
    const copy = new Type(bytes.slice(offset, offset + size).buffer);
    offset += padded(size);
    return copy;
  };
  const { n_layers, n_neurons, n_pruned, concepts } = header.scene;
  const layerSize = n_layers * n_neurons;
  if (header.start === 0) {
    header.order = take(Uint16Array, layerSize);
    header.pruned = take(Uint32Array, n_pruned);
  }
  for (const frame of header.frames) {
    [frame.recruits, frame.survivors] = [[], []];
    concepts.forEach((_, c) => {
      for (const [marks, lengths] of [[frame.recruits, frame.n_recruits], [frame.survivors, frame.n_survivors]]) {
        marks.push({ indices: take(Uint32Array, lengths[c]), also: take(Uint8Array, lengths[c]) });
      }
    });
  }
  header.values = header.values.map((index) => {
    const values = take(Uint8Array, concepts.length * layerSize);
    return { index, values: concepts.map((_, c) => values.subarray(c * layerSize, (c + 1) * layerSize)) };
  });
  return header;
}

const padded = (length) => Math.ceil(length / 4) * 4;

function createStore() {
  return {
    epoch: null, scene: null, frames: [], control: [], live: false, status: "", half: {}, card: null,
    held: 0, rasters: [],
  };
}

// Takes in a message; tells whether everything held before was dropped. A message that starts beyond what is held (the
// page was reloaded, an update was skipped) is dropped: the acknowledgement makes the server resend.
function absorb(store, message) {
  const epochChanged = message.epoch !== store.epoch;
  const shrank = message.start + message.frames.length < store.frames.length;
  const restarted = epochChanged || shrank;
  if (restarted) Object.assign(store, createStore(), { epoch: message.epoch });
  const { live, status, card } = message;
  Object.assign(store, { live, status, card: card ?? null, half: message.half_steps });
  if (message.start === 0 && !store.scene) openScene(store, message);
  // A run that is continued gets more steps; all else of a scene stays.
  if (store.scene) store.scene.total_steps = message.scene.total_steps;
  const connected = store.scene !== null && message.start <= store.frames.length
    && message.control_start <= store.control.length;
  if (!connected) return { restarted };
  const news = message.frames.slice(store.frames.length - message.start);
  for (const frame of news) appendFrame(store, frame);
  store.control.push(...message.control.slice(store.control.length - message.control_start));
  for (const [index, flow] of Object.entries(message.net)) {
    if (store.frames[index]) store.frames[index].net = flow;
  }
  for (const { index, values } of message.values) hold(store, index, values);
  if (news.length || message.control.length || !store.extent) {
    alignControl(store);
    store.extent = measureExtent(store);
  }
  return { restarted };
}

function openScene(store, { scene, order, pruned }) {
  const { n_layers: layers, n_neurons: neurons } = scene;
  const rank = new Uint16Array(layers * neurons);
  let plainIndex = true;
  for (let cell = 0; cell < order.length; cell++) {
    const position = cell % neurons;
    rank[cell - position + order[cell]] = position;
    plainIndex &&= order[cell] === position;
  }
  Object.assign(store, { scene, order, rank, plainIndex });
  store.pruned = toCells(store, pruned);
  store.isPruned = new Set(store.pruned);
  store.followed = toCells(store, scene.followed);
}

const toCells = ({ rank, scene: { n_neurons } }, indices) =>
  indices.map((index) => index - (index % n_neurons) + rank[index]);

const neuronAt = ({ order, scene: { n_neurons } }, cell) =>
  ({ layer: Math.floor(cell / n_neurons), neuron: order[cell], rank: cell % n_neurons });

const nameOf = (store, cell) => {
  const { layer, neuron } = neuronAt(store, cell);
  return `L${layer}.N${neuron}`;
};

// A cell's byte in one snapshot's values, which are in the order of the neurons.
const byteAt = ({ order, scene: { n_neurons } }, values, cell) =>
  values[cell - (cell % n_neurons) + order[cell]];

function appendFrame(store, raw) {
  const previous = store.frames.at(-1);
  const frame = { ...raw, values: null, raster: null, net: null };
  for (const kind of ["recruits", "survivors"]) {
    frame[kind] = raw[kind].map(({ indices, also }, c) =>
      trackMarks(toCells(store, indices), also, previous?.[kind][c]));
  }
  // A list that did not change since the snapshot before is the very same list.
  frame.words = raw.words.map((words, f) => words ?? previous?.words[f] ?? []);
  store.frames.push(frame);
}

// Marks of one snapshot: for how many snapshots each has stood, and whether it stands in the next.
function trackMarks(cells, also, previous) {
  const marks = { cells, also, age: new Uint16Array(cells.length), stays: new Uint8Array(cells.length) };
  marks.stays.fill(1);
  if (!previous) return marks;
  const slot = new Map();
  previous.cells.forEach((cell, i) => slot.set(cell, i));
  previous.stays.fill(0);
  cells.forEach((cell, i) => {
    const before = slot.get(cell);
    if (before === undefined) return;
    marks.age[i] = previous.age[before] + 1;
    previous.stays[before] = 1;
  });
  return marks;
}

// Time of a snapshot on one axis: the base lies before the edit, which is step 0.
const timeOf = ({ phase, step }) => (phase === "base" ? -1 : step);

// For every snapshot of the run, the control at the same step (null: not there yet).
function alignControl({ frames, control }) {
  for (const frame of frames) frame.ghost = control.length ? controlAt(control, frame) : null;
}

function controlAt(control, frame) {
  const time = timeOf(frame);
  const after = control.findIndex((curve) => timeOf(curve) >= time);
  if (after < 0) return null;
  const right = control[after];
  if (after === 0 || timeOf(right) === time) return right;
  const left = control[after - 1];
  // A control has no moment after an edit: until its first training step it is what it was.
  const from = Math.max(0, timeOf(left));
  const t = (time - from) / (timeOf(right) - from);
  const between = (a, b) => a.map((value, i) =>
    (Array.isArray(value) ? between(value, b[i]) : mix(value, b[i], t)));
  return { layer_change: between(left.layer_change, right.layer_change), centre: between(left.centre, right.centre) };
}

// Ranges of the axes. The base is left out of the change by layer once there is more to see: what the
// edit took away is far more than what moves afterwards (its bars are marked where they are cut).
function measureExtent({ frames, control, scene }) {
  const all = [...frames, ...control];
  const moved = frames.some(({ phase }) => phase === "training");
  const after = moved ? all.filter(({ phase }) => phase !== "base") : all;
  const largest = (curves, values) => {
    let most = 0;
    for (const curve of curves) {
      for (const value of values(curve)) if (value !== null) most = Math.max(most, Math.abs(value));
    }
    return most;
  };
  const range = (values) => {
    const finite = all.flatMap(values).filter((value) => value !== null);
    return finite.length ? [Math.min(...finite), Math.max(...finite)] : null;
  };
  return {
    change: largest(after, (curve) => curve.layer_change.flat()),
    flow: Math.max(0, ...frames.map((frame) => throughput(frame, scene.n_layers))),
    distance: largest(all, (curve) => curve.distance),
    answer: largest(all, (curve) => [curve.retrained, curve.held_out]),
    centre: range((curve) => curve.centre),
    loss: range((curve) => curve.neutral_loss),
  };
}

const flowOf = (frame) => frame.net ?? frame.flow;

// The most that any layer gives or takes.
function throughput(frame, n_layers) {
  let most = 0;
  for (const ribbons of flowOf(frame)) {
    const [given, taken] = [new Float64Array(n_layers), new Float64Array(n_layers)];
    for (const [from, to, share] of ribbons) {
      given[from] += share;
      taken[to] += share;
    }
    most = Math.max(most, ...given, ...taken);
  }
  return most;
}

const mix = (a, b, t) => (a === null || b === null ? null : a + (b - a) * t);

// The two snapshots around a playhead and how far it is between them.
function around(frames, playhead) {
  const index = Math.min(Math.floor(playhead), frames.length - 1);
  const next = Math.min(index + 1, frames.length - 1);
  return { from: frames[index], to: frames[next], t: next === index ? 0 : playhead - index };
}

const shownIndex = (playhead) => Math.round(playhead);

function frameName({ phase, step }) {
  if (phase === "base") return "before the edit";
  return phase === "edited" ? "just after the edit" : `step ${step}`;
}

const formatMeasured = (value) => (value === null ? "not measured" : value.toFixed(2));
const countMarks = (perConcept) => perConcept.reduce((sum, marks) => sum + marks.cells.length, 0);

// A byte of the wire in the unit of the scene.
const unitValue = ({ signed, full_scale }, byte) =>
  signed ? ((byte - NO_CHANGE) / (255 - NO_CHANGE)) * full_scale : (byte / 255) * full_scale;
