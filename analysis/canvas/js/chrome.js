// What surrounds the picture: headline, story, legend with counts, transport, help, spoken summary.
// Builds and updates DOM nodes; text only through textContent. Knows nothing of the canvas.

const SPEEDS = [0.5, 1, 2, 4];
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

function node(tag, className, text, attributes = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

function iconButton(name, label, title) {
  const button = node("button", `button ${name}`, undefined, { type: "button", "aria-label": label, title });
  button.append(icon(ICONS[name]));
  return button;
}

function buildChrome() {
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
      { type: "button", "aria-label": `Speed ${speed}`, "data-speed": speed });
    speeds.append(button);
  }
  const follow = node("button", "button follow", "Follow latest",
    { type: "button", title: "Stay at the newest snapshot (F)" });
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

// ---- legend: each mark explained where it is counted ------------------------------------------

function buildLegend(chrome, store, palette) {
  const { scene } = store;
  const several = scene.concepts.length > 1;
  const counters = { recruits: [], survivors: [] };
  const items = scene.concepts.map((concept, c) => rampEntry(concept, c, scene, palette));
  const entry = (glyph, label, sentence) => {
    const item = node("li", "entry");
    const counts = node("span", "counts");
    const words = node("span", "words");
    words.append(node("b", "", label), node("small", "", sentence));
    item.append(node("i", `glyph ${glyph}`), counts, words);
    items.push(item);
    return counts;
  };
  const perConcept = (counts) => scene.concepts.map((_, c) => {
    const number = node("span", "count", "0");
    if (several) number.style.color = css(palette.ramps[c](0.8));
    counts.append(number);
    return number;
  });
  entry("scar", scene.edit_label, "the scars of the edit")
    .append(node("span", "count", formatCount(scene.n_pruned)));
  counters.recruits = perConcept(entry("recruit", "recruits", "newly carry the concept"));
  counters.survivors = perConcept(entry("survivor", "survivors", "carried it, still do, and gained"));
  if (scene.tracked.length > 1) items.push(othersEntry(scene, palette));
  if (several) {
    items.push(node("li", "note", palette.dark ? "pale where concepts share a neuron" : "dark where concepts share a neuron"));
  }
  chrome.legend.replaceChildren(...items);
  // With several concepts the glyphs explain the shape alone, in ink.
  const glyph = css(several ? palette.text : palette.hues[0]);
  chrome.root.style.setProperty("--glyph", glyph);
  chrome.root.style.setProperty("--glyph-core", palette.dark && !several ? "#fff" : glyph);
  return counters;
}

function rampEntry({ title }, c, scene, palette) {
  const formatted = formatUnit(scene.full_scale);
  const item = node("li", "scale");
  const bar = node("span", "ramp");
  bar.style.background = palette.legend[c];
  const ends = node("span", "ends");
  const marks = scene.signed ? [`\u2212${formatted}`, "no change", `+${formatted}`] : ["0", formatted];
  ends.append(...marks.map((mark) => node("span", "", mark)));
  const name = node("span", "concept", title);
  name.style.setProperty("--hue", css(palette.hues[c]));
  const column = node("span", "column");
  column.append(bar, ends);
  item.append(name, column);
  return item;
}

// Rings in the hues of the other tracked concepts: what a recruit carries beside this one.
function othersEntry({ tracked, concepts }, palette) {
  const item = node("li", "entry");
  const words = node("span", "words");
  const names = node("b");
  tracked.forEach((title, place) => {
    if (concepts.length === 1 && concepts[0].place === place) return;
    const name = node("span", "other", title);
    name.style.setProperty("--hue", css(palette.hueOf(place)));
    names.append(name);
  });
  words.append(names, node("small", "", "ring: a recruit that carries this, too"));
  item.append(words);
  return item;
}

const formatCount = (count) => count.toLocaleString("en-US");

function formatUnit(value) {
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(1) : Number(value.toPrecision(3)).toString();
  return signText(text);
}

// ---- updates ----------------------------------------------------------------------------------

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function showMoment(chrome, counters, story, store, frame) {
  setText(chrome.moment, frameName(frame));
  setText(chrome.progress, frame.phase === "training" ? `of ${store.scene.total_steps}` : "");
  tellStory(story, store, frame);
  for (const kind of ["recruits", "survivors"]) {
    frame[kind].forEach((marks, c) => setText(counters[kind][c], formatCount(marks.cells.length)));
  }
  chrome.slider.setAttribute("aria-valuetext", frameName(frame));
  chrome.stage.setAttribute("aria-label", `Map of neurons, ${summarize(store, frame)}`);
}

function showPlayer(chrome, { playing, following, speed, live, count, playhead }) {
  const label = playing ? "Pause" : "Play";
  if (chrome.play.getAttribute("aria-label") !== label) {
    chrome.play.setAttribute("aria-label", label);
    chrome.play.replaceChildren(icon(ICONS[playing ? "pause" : "play"]));
  }
  chrome.slider.max = String(Math.max(0, count - 1));
  chrome.slider.value = String(playhead);
  chrome.slider.style.setProperty("--share", count > 1 ? playhead / (count - 1) : 0);
  for (const button of chrome.speeds.children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.speed) === speed));
  }
  chrome.follow.setAttribute("aria-pressed", String(following));
  chrome.follow.hidden = chrome.live.hidden = !live;
  const idle = count < 2;
  for (const control of [chrome.back, chrome.play, chrome.forward, chrome.slider, chrome.picture, chrome.curves]) control.disabled = idle;
}
