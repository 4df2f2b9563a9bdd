// Input: buttons, keys and pointer, turned into what the player does and what the server is told.
// Knows where things are (layout.js) and what they are called (chrome.js); draws nothing.

import { invalidate } from "./animation.js";
import { nearestFrame } from "./axes.js";
import { chooseNeuron } from "./card.js";
import { saveCurves, savePicture } from "./export.js";
import { laneAt } from "./lanes.js";
import { cellAt, inside, layerAt } from "./layout.js";
import { markNear } from "./marks.js";
import { changeSpeed, followLatest, lastIndex, seek, stepBack, stepForward, togglePlay } from "./player.js";
import { strongestIn } from "./raster.js";
import { shownIndex } from "./snapshots.js";
import { isOpen } from "./store.js";
import { timeOfPanels } from "./timeline.js";
import { describeCell, describeFlow, describeLane, describeLayer, describeMoment } from "./tooltip.js";

/** @import { LayerPanel, Layout, Target, View } from "./types" */

/**
 * @template {keyof HTMLElementEventMap} K
 * @typedef {(event: HTMLElementEventMap[K]) => void} Handler
 */

/** @type {Record<string, (view: View) => void>} */
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

/** @type {(view: View) => void} */
export function listen(view) {
  const { chrome } = view;
  const { signal } = view.stop;
  /** @type {<K extends keyof HTMLElementEventMap>(target: HTMLElement, type: K, handler: Handler<K>) => void} */
  const on = (target, type, handler) => target.addEventListener(type, (event) => {
    handler(event);
    invalidate(view);
  }, { signal });
  on(chrome.play, "click", () => togglePlay(view));
  on(chrome.back, "click", () => stepBack(view));
  on(chrome.forward, "click", () => stepForward(view));
  on(chrome.follow, "click", () => followLatest(view, !view.following));
  on(chrome.slider, "input", () => seek(view, Math.round(Number(chrome.slider.value))));
  on(chrome.speeds, "click", ({ target }) => {
    if (target instanceof HTMLElement && target.dataset.speed) view.speed = Number(target.dataset.speed);
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
  view.motion.addEventListener("change", () => invalidate(view), { signal });
}

/** @type {(view: View, event: KeyboardEvent) => void} */
function press(view, event) {
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  const pressesButton = event.key === " " && event.target instanceof HTMLButtonElement;
  if (!action || pressesButton || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  event.stopPropagation();
  action(view);
}

/** @type {(view: Pick<View, "chrome">) => void} */
function toggleHelp({ chrome }) {
  chrome.help.hidden = !chrome.help.hidden;
}

/** @type {(view: Pick<View, "chrome">) => void} */
function toggleFull({ chrome }) {
  if (document.fullscreenElement) document.exitFullscreen();
  else chrome.root.requestFullscreen?.();
}

/** @type {(view: View, event: PointerEvent) => [number, number]} */
function pointer(view, event) {
  const box = view.chrome.stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

/** @type {(layout: Layout) => { panel: LayerPanel, describe: typeof describeLayer }[]} */
const layerPanels = ({ flow, bars }) =>
  [{ panel: flow, describe: describeFlow }, { panel: bars, describe: describeLayer }];

/**
 * What lies under the pointer: a cell, a layer of flow or bars, a lane, or a snapshot on the time axis.
 * @type {(view: View, x: number, y: number) => Target | null}
 */
export function pick(view, x, y) {
  const { layout, store, playhead } = view;
  if (!layout || !isOpen(store) || !store.frames.length) return null;
  const frame = store.frames[shownIndex(playhead)];
  const under = inside(layout.map, x, y) ? markNear(layout, frame, x, y) ?? cellAt(layout, x, y) : null;
  if (under !== null) {
    const cell = strongestIn(store, layout, frame, under);
    return { cell, lines: () => describeCell(store, view.playhead, cell) };
  }
  for (const { panel, describe } of layerPanels(layout)) {
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

/** @type {(view: View, event: PointerEvent) => void} */
function hover(view, event) {
  const [x, y] = pointer(view, event);
  view.hover = pick(view, x, y);
  if (view.scrubbing && view.hover?.index !== undefined) seek(view, view.hover.index);
  view.pointer = { x, y: y + view.chrome.stage.offsetTop };
  view.chrome.stage.dataset.over = view.hover ? (view.hover.index !== undefined ? "time" : "cell") : "";
}

/** @type {(view: View, event: PointerEvent) => void} */
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
