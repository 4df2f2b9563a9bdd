// Input: buttons, keys and pointer, turned into what the player does and what the server is told.
// Knows where things are (layout.js) and what they are called (chrome.js); draws nothing.

const KEYS = {
  " ": togglePlay,
  ArrowLeft: stepBack,
  ArrowRight: stepForward,
  Home: (view) => seek(view, 0),
  End: (view) => seek(view, lastIndex(view)),
  f: (view) => followLatest(view, true),
  "+": (view) => changeSpeed(view, 1),
  "=": (view) => changeSpeed(view, 1),
  "-": (view) => changeSpeed(view, -1),
  Escape: (view) => {
    view.chrome.help.hidden = true;
    chooseNeuron(view, null);
  },
  "?": toggleHelp,
};

function listen(view) {
  const { chrome } = view;
  const on = (target, type, handler) => target.addEventListener(type, (event) => {
    handler(event);
    invalidate(view);
  }, { signal: view.stop.signal });
  on(chrome.play, "click", () => togglePlay(view));
  on(chrome.back, "click", () => stepBack(view));
  on(chrome.forward, "click", () => stepForward(view));
  on(chrome.follow, "click", () => followLatest(view, !view.following));
  on(chrome.slider, "input", () => seek(view, Math.round(Number(chrome.slider.value))));
  on(chrome.speeds, "click", ({ target }) => {
    if (target.dataset.speed) view.speed = Number(target.dataset.speed);
  });
  on(chrome.picture, "click", () => savePicture(view));
  on(chrome.curves, "click", () => saveCurves(view));
  on(chrome.full, "click", () => toggleFull(view));
  on(chrome.keys, "click", () => toggleHelp(view));
  on(chrome.root, "keydown", (event) => press(view, event));
  on(chrome.stage, "pointermove", (event) => hover(view, event));
  on(chrome.stage, "pointerdown", (event) => pointerDown(view, event));
  on(chrome.stage, "pointerup", () => { view.scrubbing = false; });
  on(chrome.stage, "pointerleave", () => Object.assign(view, { hover: null, scrubbing: false }));
  on(view.motion, "change", () => {});
}

function press(view, event) {
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  const pressesButton = event.key === " " && event.target instanceof HTMLButtonElement;
  if (!action || pressesButton || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  event.stopPropagation();
  action(view);
}

function toggleHelp({ chrome }) {
  chrome.help.hidden = !chrome.help.hidden;
}

function toggleFull({ chrome }) {
  if (document.fullscreenElement) document.exitFullscreen();
  else chrome.root.requestFullscreen?.();
}

function chooseNeuron(view, cell) {
  const { layer, neuron } = cell === null ? {} : neuronAt(view.store, cell);
  const chosen = cell === null ? "" : `${layer}.${neuron}`;
  if (chosen === view.neuron) return;
  Object.assign(view, { neuron: chosen, chosenCell: cell });
  view.setStateValue("neuron", chosen);
  invalidate(view);
}

function pointer(view, event) {
  const box = view.chrome.stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

// What lies under the pointer: a cell, a layer of flow or bars, a lane, or a snapshot on the time axis.
function pick(view, x, y) {
  const { layout, store, playhead } = view;
  if (!layout || !store.frames.length) return null;
  const frame = store.frames[shownIndex(playhead)];
  const under = inside(layout.map, x, y) ? markNear(layout, frame, x, y) ?? cellAt(layout, x, y) : null;
  if (under !== null) {
    const cell = strongestIn(store, layout, frame, under);
    return { cell, lines: () => describeCell(store, view.playhead, cell) };
  }
  for (const [panel, describe] of [[layout.flow, describeFlow], [layout.bars, describeLayer]]) {
    if (!inside(panel, x, y)) continue;
    const layer = layerAt(panel, layout.n_layers, y);
    return { layer, lines: () => describe(store, view.playhead, layer) };
  }
  const lane = inside(layout.lanes, x, y) ? laneAt(layout, y) : null;
  const panel = layout.times.find((rect) => inside(rect, x, y, 6));
  if (!panel && lane === null) return null;
  const index = nearestFrame(timeOfPanels(layout, store), store.frames, x);
  if (lane === null) return { index, lines: () => describeMoment(store.frames[index], store.scene) };
  return { index, lane, chosen: store.followed[lane], lines: () => describeLane(store, store.frames[index], lane) };
}

function hover(view, event) {
  const [x, y] = pointer(view, event);
  view.hover = pick(view, x, y);
  if (view.scrubbing && view.hover?.index !== undefined) seek(view, view.hover.index);
  view.pointer = { x, y: y + view.chrome.stage.offsetTop };
  view.chrome.stage.dataset.over = view.hover ? (view.hover.index !== undefined ? "time" : "cell") : "";
}

function pointerDown(view, event) {
  const target = pick(view, ...pointer(view, event));
  if (!target || event.button) return;
  if (target.chosen !== undefined) chooseNeuron(view, target.chosen);
  if (target.index !== undefined) {
    view.scrubbing = true;
    seek(view, target.index);
  } else if (target.cell !== undefined) {
    chooseNeuron(view, target.cell);
  }
}
