// What surrounds the picture: headline, transport, help, spoken summary.
// Builds and updates DOM nodes. Knows nothing of the canvas.

import { icon, node, setText } from "./dom.js";
import { SPEEDS } from "./player.js";
import { MARK_KINDS, frameName } from "./snapshots.js";
import { summarize, tellStory } from "./story.js";
import { formatCount } from "./text.js";

/** @import { Chrome, Counters, Frame, OpenStore, Story, View } from "./types" */

const ICONS = {
  first: "M4 3h2v10H4zM13 3v10L6.5 8z",
  back: "M11 3v10L4.5 8z",
  play: "M4 2.5v11L13 8z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  forward: "M5 3v10l6.5-5z",
  full: "M2 2h5v2H4v3H2zM9 2h5v5h-2V4H9zM2 9h2v3h3v2H2zM12 9h2v5H9v-2h3z",
};

const KEY_HELP = [
  ["space", "play or pause"], ["\u2190 \u2192", "one snapshot back or on"], ["Home End", "first or last snapshot"],
  ["F", "follow the newest"], ["+ \u2212", "faster or slower"], ["Esc", "close the card"], ["?", "this help"],
];

/** @type {(name: keyof typeof ICONS, label: string, title: string) => HTMLButtonElement} */
function iconButton(name, label, title) {
  const button = node("button", `button ${name}`, undefined, { type: "button", "aria-label": label, title });
  button.append(icon(ICONS[name]));
  return button;
}

/** @type {() => Chrome} */
export function buildChrome() {
  const root = node("div", "palimpsest", undefined, { role: "group", "aria-label": "Migration view" });
  const head = node("header", "head");
  const headline = node("div", "headline");
  const moment = node("span", "moment");
  const progress = node("span", "progress");
  const live = node("span", "live", "live");
  const status = node("span", "status");
  headline.append(moment, progress, live, status);
  const story = node("div", "story");
  const legend = node("ul", "legend", undefined, { "aria-label": "Legend" });
  const spokenNow = node("p", "spoken", "", { "aria-live": "polite" });
  head.append(headline, story, legend, spokenNow);

  const stage = node("div", "stage", undefined, { tabindex: "0", role: "img" });
  const still = node("canvas", "still");
  const moving = node("canvas", "moving");
  const waiting = node("p", "waiting", "Waiting for the first snapshot \u2026");
  const fetching = node("p", "fetching", "", { hidden: "" });
  stage.append(still, moving, waiting, fetching);

  const transport = node("div", "transport", undefined, { role: "toolbar", "aria-label": "Playback" });
  const back = iconButton("back", "Previous snapshot", "Previous snapshot (left arrow)");
  const play = iconButton("play", "Play", "Play or pause (space)");
  const forward = iconButton("forward", "Next snapshot", "Next snapshot (right arrow)");
  const slider = node("input", "slider", undefined,
    { type: "range", min: "0", max: "0", step: "any", value: "0", "aria-label": "Snapshot" });
  const speeds = node("div", "speeds", undefined, { role: "group", "aria-label": "Speed" });
  for (const speed of SPEEDS) {
    const button = node("button", "button speed", `${speed}\u00d7`,
      { type: "button", "aria-label": `Speed ${speed}`, "data-speed": `${speed}` });
    speeds.append(button);
  }
  const follow = node("button", "button follow", "Follow latest",
    { type: "button", title: "Stay at the newest snapshot (F)" });
  /** @type {(label: string, title: string) => HTMLButtonElement} */
  const textButton = (label, title) => node("button", "button", label, { type: "button", title, "aria-label": title });
  const picture = textButton("PNG", "Save this picture as PNG");
  const curves = textButton("CSV", "Save the curves as CSV");
  const full = iconButton("full", "Full screen", "Full screen");
  const keys = textButton("?", "Keyboard help");
  const files = node("div", "files");
  files.append(picture, curves, full, keys);
  transport.append(back, play, forward, slider, speeds, follow, files);

  const card = node("aside", "card", undefined, { hidden: "", "aria-label": "Chosen neuron" });
  const help = node("dl", "help", undefined, { hidden: "" });
  for (const [key, does] of KEY_HELP) help.append(node("dt", "", key), node("dd", "", does));
  const tooltip = node("div", "tooltip", undefined, { role: "tooltip", hidden: "" });
  root.append(head, stage, transport, card, help, tooltip);
  return { root, moment, progress, live, status, story, legend, spokenNow, stage, still, moving, waiting, fetching,
    back, play, forward, slider, speeds, follow, picture, curves, full, keys, card, help, tooltip };
}

/** @type {(chrome: Chrome, counters: Counters, story: Story, store: OpenStore, frame: Frame) => void} */
export function showMoment(chrome, counters, story, store, frame) {
  setText(chrome.moment, frameName(frame));
  setText(chrome.progress, frame.phase === "training" ? `of ${store.scene.total_steps}` : "");
  tellStory(story, store, frame);
  for (const kind of MARK_KINDS) {
    frame[kind].forEach((marks, c) => setText(counters[kind][c], formatCount(marks.cells.length)));
  }
  chrome.slider.setAttribute("aria-valuetext", frameName(frame));
  chrome.stage.setAttribute("aria-label", `Map of neurons, ${summarize(store, frame)}`);
}

/**
 * @type {(
 *   chrome: Chrome, state: Pick<View, "playing" | "following" | "speed" | "playhead"> & { live: boolean, count:
 *   number }
 * ) => void}
 */
export function showPlayer(chrome, { playing, following, speed, live, count, playhead }) {
  const label = playing ? "Pause" : "Play";
  if (chrome.play.getAttribute("aria-label") !== label) {
    chrome.play.setAttribute("aria-label", label);
    chrome.play.replaceChildren(icon(ICONS[playing ? "pause" : "play"]));
  }
  chrome.slider.max = String(Math.max(0, count - 1));
  chrome.slider.value = String(playhead);
  chrome.slider.style.setProperty("--share", `${count > 1 ? playhead / (count - 1) : 0}`);
  for (const button of chrome.speeds.children) {
    button.setAttribute("aria-pressed", String(Number(button.getAttribute("data-speed")) === speed));
  }
  chrome.follow.setAttribute("aria-pressed", String(following));
  chrome.follow.hidden = chrome.live.hidden = !live;
  const idle = count < 2;
  for (const control of [chrome.back, chrome.play, chrome.forward, chrome.slider, chrome.picture, chrome.curves]) control.disabled = idle;
}
