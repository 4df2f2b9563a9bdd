// The component: one instance per mounted element, its messages, its frame loop.
// Ties the other files together; what the picture looks like is up to the files that draw. No globals: the state of an
// instance lives in a WeakMap keyed by its parent element, because the default export runs again at every update and
// every change of theme.

const instances = new WeakMap();
let mounts = 0;

export default function migrationCanvas({ data, parentElement, setStateValue, setTriggerValue }) {
  let view = instances.get(parentElement);
  if (!view) {
    view = mount(parentElement);
    instances.set(parentElement, view);
  }
  Object.assign(view, { setStateValue, setTriggerValue });
  receive(view, data);
  const call = ++view.calls;
  return () => setTimeout(() => {
    if (view.calls === call) unmount(view, parentElement);
  }, STAY);
}

// Streamlit calls the cleanup of an update that the next one has overtaken, too, and does so before that next one is
// here. So whoever goes waits for a moment, and stays if there was another call.
const STAY = 1000;

function unmount(view, parent) {
  view.stop.abort();
  cancelAnimationFrame(view.request);
  view.observer.disconnect();
  clearTimeout(view.rested);
  view.chrome.root.remove();
  if (instances.get(parent) === view) instances.delete(parent);
}

function mount(parent) {
  const chrome = buildChrome();
  parent.append(chrome.root);
  const view = {
    chrome, calls: 0, store: createStore(), stop: new AbortController(), counters: null,
    playhead: 0, playing: false, following: false, rest: 0, pending: 0, speed: 1, started: false,
    motion: matchMedia("(prefers-reduced-motion: reduce)"),
    width: 0, request: 0, clock: 0, drawn: null, layout: null, palette: null, surface: null,
    theme: null, themeRead: false, stillStale: true,
    hover: null, pointer: null, tip: "", acknowledged: null, shown: -1, lastData: null, scars: null,
    neuron: "", chosenCell: null, told: null, rested: 0, spokenAt: -1,
  };
  view.story = buildStory(chrome);
  chrome.root.dataset.mounts = String(++mounts);
  // The width is remembered: asking for it in every frame would force a page layout each time.
  view.observer = new ResizeObserver(([{ contentRect }]) => {
    view.width = Math.floor(contentRect.width);
    invalidate(view);
  });
  view.observer.observe(chrome.root);
  document.fonts.ready.then(() => { view.stillStale = true; invalidate(view); });
  listen(view);
  return view;
}

// ---- messages ---------------------------------------------------------------------------------

function receive(view, data) {
  if (data instanceof Uint8Array && data !== view.lastData) {
    view.lastData = data;
    const { restarted } = absorb(view.store, decodeMessage(data));
    if (restarted) Object.assign(view, { layout: null, hover: null, told: null });
    Object.assign(view, { stillStale: true, drawn: null, shown: -1, tip: "" });
    onArrival(view);
    tidy(view);
    if (view.palette && !restarted) showCard(view);
  }
  view.themeRead = false;         // this call may be a change of theme
  invalidate(view);
}

// Lets go of what lies far from the playhead, and asks for what is missing near it. The server is told only when that
// changes: every acknowledgement reruns the fragment around the component.
function tidy(view) {
  const { store } = view;
  const at = Math.max(0, shownIndex(view.playhead));
  if (store.scene) letGo(store, at);
  const have = acknowledgement(store, at);
  if (have === view.acknowledged) return;
  view.acknowledged = have;
  view.setStateValue("have", have);
}

const REST_MS = 250;              // a playhead that stays for so long has been let go

// The rest of the page follows once the playhead rests: cards and tables for every step passed would only flicker.
function tellRest(view, index) {
  clearTimeout(view.rested);
  view.rested = setTimeout(() => {
    const { chrome, store } = view;
    if (view.stop.signal.aborted || !store.frames[index] || shownIndex(view.playhead) !== index) return;
    setText(chrome.spokenNow, spoken(store, store.frames[index]));
    // The newest snapshot of a run is what the server takes if it is told nothing.
    const newest = view.following || (index === lastIndex(view) && !view.told);
    const step = newest ? "" : `${store.epoch}#${index}`;
    if (step === (view.told ?? "")) return;
    view.told = step;
    view.setStateValue("step", step);
  }, REST_MS);
}

// ---- frame loop: runs only while the playhead moves; everything else asks for a single frame ---

function invalidate(view) {
  if (!view.request && !view.stop.signal.aborted) {
    view.request = requestAnimationFrame((now) => tick(view, now));
  }
}

function tick(view, now) {
  view.request = 0;
  if (isMoving(view)) advance(view, now);
  else view.clock = 0;
  render(view);
  const index = shownIndex(view.playhead);
  if (view.store.frames.length && index !== view.spokenAt) {
    view.spokenAt = index;
    tidy(view);
  }
  if (isMoving(view)) invalidate(view);
  else if (view.store.frames.length && !isStarved(view)) tellRest(view, index);
}

function render(view) {
  const { chrome, store, playhead, following, speed } = view;
  const count = store.frames.length;
  const index = count ? shownIndex(playhead) : -1;
  const playing = isRunning(view) && isMoving(view);
  Object.assign(chrome.root.dataset, { frames: count, index, playing, held: store.held });
  setText(chrome.status, store.status);
  showPlayer(chrome, { playing, following, speed, live: store.live, count, playhead });
  chrome.waiting.hidden = count > 0;
  if (!store.scene || !prepare(view) || !count) return;
  if (view.shown !== index) showMoment(chrome, view.counters, view.story, store, store.frames[index]);
  view.shown = index;
  drawMoving(view);
  showHover(view, index);
}

function showHover(view, index) {
  const { chrome, hover, pointer } = view;
  if (!hover) chrome.tooltip.hidden = true;
  const tip = hover ? `${index} ${pointer.x} ${pointer.y}` : "";
  if (hover && tip !== view.tip) showTooltip(chrome, hover.lines(), pointer.x, pointer.y);
  view.tip = tip;
}

// Brings everything that is not redrawn in every frame up to date; false while there is no width.
function prepare(view) {
  const { chrome, layout, store, width } = view;
  if (width < 1) return false;
  const dpr = window.devicePixelRatio || 1;
  if (!view.themeRead) {
    const theme = readTheme(chrome.root);
    if (themeSignature(theme) !== themeSignature(view.theme)) view.layout = null;
    Object.assign(view, { theme, themeRead: true });
  }
  if (!view.layout || layout.dpr !== dpr || layout.width !== width) rebuild(view, dpr);
  if (view.stillStale) drawStill(view);
  view.stillStale = false;
  return true;
}

// What depends on size, theme or scene.
function rebuild(view, dpr) {
  const { chrome, store, width } = view;
  const { n_layers, n_neurons } = store.scene;
  const lanes = store.frames.some(({ words }) => words.some((one) => one.length)) ? store.followed.length : 0;
  view.layout = computeLayout({ width, dpr, n_layers, n_neurons, lanes });
  view.palette = buildPalette(view.theme, store.scene, dpr);
  view.surface = createSurface(view.layout);
  view.scars = createScars(view.layout, view.palette, store);
  view.counters = buildLegend(chrome, store, view.palette);
  view.shown = -1;
  view.drawn = null;
  view.stillStale = true;
  chrome.stage.style.height = `${view.layout.height}px`;
  for (const canvas of [chrome.still, chrome.moving]) {
    canvas.width = Math.round(width * dpr);
    canvas.height = Math.round(view.layout.height * dpr);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${view.layout.height}px`;
  }
  showCard(view);
}

function drawStill({ chrome, layout, palette, store }) {
  const context = begin(chrome.still, layout);
  drawMapStill(context, layout, palette, store);
  if (!store.frames.length) return;
  drawFlowStill(context, layout, palette, store);
  drawBarsStill(context, layout, palette, store);
  drawTimesStill(context, layout, palette, store);
  drawLanesStill(context, layout, palette, store);
}

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

// The cells, if the playhead moved. What is not here yet is not made up: the nearest snapshot stands in, and says so.
function paint(view) {
  const { chrome, layout, palette, store, surface, playhead } = view;
  if (view.drawn === playhead) return;
  const { from, to, t } = around(store.frames, playhead);
  const rest = t === 0 || t < 1e-6;
  const ready = from.values && (rest || to.values);
  const shown = ready ? from : nearestHeld(store, shownIndex(playhead));
  chrome.fetching.hidden = Boolean(ready);
  if (!ready) setText(chrome.fetching, `fetching ${frameName(store.frames[shownIndex(playhead)])} \u2026`);
  if (!shown) return;
  const next = ready && !rest ? to : shown;
  const planes = rasterOf(store, layout, shown);
  paintCells(surface, layout, palette, planes, next === shown ? planes : rasterOf(store, layout, next), rest ? 0 : t);
  view.drawn = ready ? playhead : null;
}

function begin(canvas, { dpr, width, height }) {
  const context = canvas.getContext("2d");
  context.setTransform(dpr, 0, 0, dpr, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
