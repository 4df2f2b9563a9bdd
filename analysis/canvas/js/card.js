// The card of the chosen neuron: which neuron is chosen, and what the server tells of it at the resting step.
// Builds DOM nodes. Knows nothing of the canvas.

import { invalidate } from "./animation.js";
import { node } from "./dom.js";
import { css } from "./palette.js";
import { frameName, neuronAt } from "./snapshots.js";
import { isOpen } from "./store.js";
import { formatUnit, signText, visible } from "./text.js";

/** @import { Card, OpenStore, Palette, View } from "./types" */

/** @type {(view: View, cell: number | null) => void} */
export function chooseNeuron(view, cell) {
  const chosen = cell === null || !isOpen(view.store) ? "" : addressOf(view.store, cell);
  if (chosen === view.neuron) return;
  Object.assign(view, { neuron: chosen, chosenCell: cell });
  view.setStateValue("neuron", chosen);
  invalidate(view);
}

/** @type {(store: OpenStore, cell: number) => string} */
function addressOf(store, cell) {
  const { layer, neuron } = neuronAt(store, cell);
  return `${layer}.${neuron}`;
}

/** @type {(view: View) => void} */
export function showCard(view) {
  const { chrome, store, palette } = view;
  const { card } = store;
  const open = view.neuron !== "" && card !== null && `${card.layer}.${card.index}` === view.neuron;
  chrome.card.hidden = !open;
  if (!open || !palette || !isOpen(store)) return;
  const frame = store.frames[card.snapshot];
  const close = node("button", "button close", "\u00d7", { type: "button", "aria-label": "Close the card" });
  close.addEventListener("click", () => chooseNeuron(view, null));
  const title = node("div", "card-title");
  title.append(node("b", "", card.neuron), node("span", `role ${card.role}`, roleText(card, store)), close);
  chrome.card.replaceChildren(
    title,
    node("div", "hook", `${card.hook} \u00b7 ${frame ? frameName(frame) : ""}`),
    ...wordsOf(card, palette),
    scoresOf(card, palette),
    actionsOf(view, card),
  );
}

const ROLES = new Map([
  ["recruit", "recruit: newly carries it"],
  ["survivor", "survivor: carried it, still does, and gained"],
  ["other", "neither edited nor a carrier that gained"],
]);

/** @type {(card: Card, store: OpenStore) => string} */
function roleText({ role }, { scene }) {
  if (role === scene.edit_label) return role;
  return ROLES.get(role) ?? role;
}

/** @type {(card: Card, palette: Palette) => HTMLElement[]} */
function wordsOf({ followed, words_before, words_now, similarity }, palette) {
  if (!followed || !(words_before.length || words_now.length)) return [];
  /** @type {(label: string, words: string[], other: string[]) => HTMLElement} */
  const row = (label, words, other) => {
    const item = node("div", "words-row");
    item.append(node("span", "soft", label));
    for (const word of words) {
      const chip = node("span", "word", visible(word));
      if (!other.includes(word)) {
        chip.classList.add("fresh");
        chip.style.color = css(palette.ramps[0](palette.dark ? 0.75 : 0.9));
      }
      item.append(chip);
    }
    return item;
  };
  const rows = [row("words before", words_before, words_before), row("words now", words_now, words_before)];
  if (similarity !== null) rows.push(node("div", "soft", `similarity of the two: ${signText(similarity.toFixed(2))} (cosine)`));
  return rows;
}

/**
 * One row a tracked concept; what the neuron carries is told by a filled dot in the concept's hue.
 * @type {(card: Card, palette: Palette) => HTMLElement}
 */
function scoresOf({ scores }, palette) {
  const table = node("table", "scores");
  const head = node("tr");
  head.append(...["", "before", "after edit", "now", "carries it from"].map((text) => node("th", "", text, { scope: "col" })));
  table.append(head);
  for (const { title, place, before, edited, now, threshold, carries } of scores) {
    const name = node("th", "", title, { scope: "row" });
    const dot = node("i", carries ? "dot full" : "dot", "", { title: carries ? "carried now" : "not carried now" });
    dot.style.setProperty("--hue", css(palette.hueOf(place)));
    name.prepend(dot);
    const row = node("tr");
    row.append(name, ...[before, edited, now, threshold].map((value) => node("td", "", formatUnit(value))));
    if (carries) row.className = "carried";
    table.append(row);
  }
  return table;
}

/** @type {(view: View, card: Card) => HTMLElement} */
function actionsOf(view, { neuron }) {
  const actions = node("div", "actions");
  for (const [what, label] of [["card", "Full neuron card"], ["surgery", "Use in Surgery"]]) {
    const button = node("button", "button", label, { type: "button" });
    button.addEventListener("click", () => view.setTriggerValue("action", { do: what, neuron }));
    actions.append(button);
  }
  return actions;
}
