// The component: one instance per mounted element, its messages, its frame loop.
// Ties the other files together. No globals: the state of an instance lives in a WeakMap keyed by its parent element,
// because the default export runs again at every update and every change of theme.

import { invalidate } from "./animation.js";
import { showCard } from "./card.js";
import { buildChrome } from "./chrome.js";
import { setText } from "./dom.js";
import { listen } from "./input.js";
import { decodeMessage } from "./message.js";
import { advance, isMoving, isStarved, lastIndex, onArrival } from "./player.js";
import { render } from "./render.js";
import { shownIndex } from "./snapshots.js";
import { absorb, createStore, isOpen } from "./store.js";
import { buildStory, spoken } from "./story.js";
import { missingParts, letGo } from "./value_budget.js";

/** @import { Callbacks, ComponentCall, Parent, View } from "./types" */

/** @type {WeakMap<Parent, View>} */
const instances = new WeakMap();

let mounts = 0;

/** @type {(call: ComponentCall) => () => unknown} */
export default function migrationCanvas({ data, parentElement, setStateValue, setTriggerValue }) {
  let view = instances.get(parentElement);
  if (!view) {
    view = mount(parentElement, { setStateValue, setTriggerValue });
    instances.set(parentElement, view);
  }
  Object.assign(view, { setStateValue, setTriggerValue });
  receive(view, data);
  const [mounted, call] = [view, ++view.calls];
  return () => setTimeout(() => {
    if (mounted.calls === call) unmount(mounted, parentElement);
  }, STAY);
}

// Streamlit calls the cleanup of an update that the next one has overtaken, too, and does so before that next one is
// here. So whoever goes waits for a moment, and stays if there was another call.
const STAY = 1000;

/** @type {(view: View, parent: Parent) => void} */
function unmount(view, parent) {
  view.stop.abort();
  cancelAnimationFrame(view.request);
  view.observer.disconnect();
  clearTimeout(view.rested);
  view.chrome.root.remove();
  if (instances.get(parent) === view) instances.delete(parent);
}

/** @type {(parent: Parent, calls: Callbacks) => View} */
function mount(parent, { setStateValue, setTriggerValue }) {
  const chrome = buildChrome();
  parent.append(chrome.root);
  // The width is remembered: asking for it in every frame would force a page layout each time.
  const observer = new ResizeObserver(([{ contentRect }]) => {
    view.width = Math.floor(contentRect.width);
    invalidate(view);
  });
  /** @type {View} */
  const view = {
    setStateValue, setTriggerValue, tick: (now) => tick(view, now),
    chrome, story: buildStory(chrome), observer, calls: 0, store: createStore(), stop: new AbortController(), counters: null,
    playhead: 0, playing: false, following: false, rest: 0, pending: 0, speed: 1, started: false,
    motion: matchMedia("(prefers-reduced-motion: reduce)"),
    width: 0, request: 0, clock: 0, drawn: null, layout: null, palette: null, surface: null,
    theme: null, themeRead: false, stillStale: true,
    hover: null, scrubbing: false, pointer: { x: 0, y: 0 }, tip: "", asked: "", shown: -1, lastData: null, scars: null,
    neuron: "", chosenCell: null, told: null, rested: 0, spokenAt: -1,
  };
  chrome.root.dataset.mounts = String(++mounts);
  observer.observe(chrome.root);
  document.fonts.ready.then(() => { view.stillStale = true; invalidate(view); });
  listen(view);
  return view;
}

/** @type {(view: View, data: unknown) => void} */
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

/**
 * Drops what lies far from the playhead, and asks for what is missing near it. As long as nothing is missing the server
 * is told nothing: everything it is told reruns the fragment around the component.
 * @type {(view: View) => void}
 */
function tidy(view) {
  const { store } = view;
  const at = Math.max(0, shownIndex(view.playhead));
  if (isOpen(store)) letGo(store, at);
  const asked = missingParts(store, at);
  if (!asked || asked === view.asked) return;
  view.asked = asked;
  view.setStateValue("missing", asked);
}

const REST_MS = 250;              // a playhead that stays for so long has been let go

/**
 * The rest of the page follows once the playhead rests: cards and tables for every step passed would only flicker.
 * @type {(view: View, index: number) => void}
 */
function tellRest(view, index) {
  clearTimeout(view.rested);
  view.rested = setTimeout(() => {
    const { chrome, store } = view;
    if (view.stop.signal.aborted || !isOpen(store) || !store.frames[index] || shownIndex(view.playhead) !== index) return;
    setText(chrome.spokenNow, spoken(store, store.frames[index]));
    // The newest snapshot of a run is what the server takes if it is told nothing.
    const newest = view.following || (index === lastIndex(view) && !view.told);
    const step = newest ? "" : `${store.epoch}#${index}`;
    if (step === (view.told ?? "")) return;
    view.told = step;
    view.setStateValue("step", step);
  }, REST_MS);
}

/** @type {(view: View, now: number) => void} */
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
