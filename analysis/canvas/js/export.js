// What leaves the view as a file: the picture as PNG, the curves as CSV. Made in the browser; nothing is sent.

import { contextOf, node } from "./dom.js";
import { css } from "./palette.js";
import { frameName, shownIndex } from "./snapshots.js";
import { backText, movedText, removedText } from "./story.js";
import { isOpen } from "./store.js";
import { write } from "./strokes.js";
import { formatUnit } from "./text.js";

/** @import { Curve, Frame, MarkKind, Measured, OpenStore, View } from "./types" */

const FILE_MARGIN = 24;

/** @type {(name: string, blob: Blob) => void} */
function saveFile(name, blob) {
  const link = node("a", "", "", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** @type {(store: OpenStore, index: number) => string} */
const fileStem = ({ scene, frames, epoch }, index) =>
  `${epoch.split("|")[0]}-${scene.concepts.map(({ name }) => name).join("-")}-${frameName(frames[index]).replaceAll(" ", "-")}`;

/**
 * The page's ground, the story as a heading, and the two layers of the picture.
 * @type {(view: View) => void}
 */
export function savePicture({ chrome, layout, palette, store, playhead }) {
  if (!layout || !palette || !isOpen(store)) return;
  const { dpr, width, height } = layout;
  const index = shownIndex(playhead);
  const heading = 74;
  const canvas = document.createElement("canvas");
  canvas.width = Math.round((width + 2 * FILE_MARGIN) * dpr);
  canvas.height = Math.round((height + heading + 2 * FILE_MARGIN) * dpr);
  const context = contextOf(canvas);
  context.scale(dpr, dpr);
  context.fillStyle = css(palette.page);
  context.fillRect(0, 0, width + 2 * FILE_MARGIN, height + heading + 2 * FILE_MARGIN);
  const frame = store.frames[index];
  const { scene } = store;
  const [removed, back, moved] = [removedText, backText, movedText].map((told) => told(store, frame));
  write(context, palette, `${scene.concepts.map(({ title }) => title).join(", ")}: ${frameName(frame)}`,
    FILE_MARGIN, FILE_MARGIN + 8, { size: 18, weight: 650, alpha: 1 });
  write(context, palette, `Removed: ${removed.value}. Came back: ${back.value} (${back.detail}).`, FILE_MARGIN, FILE_MARGIN + 32);
  write(context, palette, `Moved: ${moved.value}, ${moved.detail}. Colour: ${scene.unit}, full at ${formatUnit(scene.full_scale)}. `
    + `Run ${store.epoch.split("|")[0]}.`, FILE_MARGIN, FILE_MARGIN + 50);
  for (const layer of [chrome.still, chrome.moving]) {
    context.drawImage(layer, FILE_MARGIN, FILE_MARGIN + heading, width, height);
  }
  canvas.toBlob((blob) => {
    if (blob) saveFile(`${fileStem(store, index)}.png`, blob);
  }, "image/png");
}

/** @type {(view: View) => void} */
export function saveCurves({ store, playhead }) {
  if (!store.frames.length || !isOpen(store)) return;
  const text = curvesAsCsv(store);
  saveFile(`${fileStem(store, shownIndex(playhead))}.csv`, new Blob([text], { type: "text/csv" }));
}

/**
 * One row a snapshot, of the run and of its control; units in the column names; what was not measured stays empty.
 * @type {(store: OpenStore) => string}
 */
export function curvesAsCsv({ frames, control, scene, epoch }) {
  const names = scene.concepts.map(({ name }) => name);
  const head = ["run", "phase", "step", "p_answer_retrained", "p_answer_held_out", "neutral_loss_nats_per_token",
    ...names.flatMap((name) => [`centre_of_mass_of_${name}_layers`,
      `wasserstein_distance_of_${name}_since_${scene.since.replace(" ", "_")}_layers`,
      `recruits_of_${name}`, `survivors_of_${name}`,
      ...Array.from({ length: scene.n_layers }, (_, layer) => `change_of_mass_of_${name}_layer_${layer}`)])];
  /** @type {(curve: Curve & Partial<Pick<Frame, MarkKind>>, run: string) => (string | Measured | undefined)[]} */
  const row = (curve, run) => [run, curve.phase, curve.step, curve.retrained, curve.held_out, curve.neutral_loss,
    ...names.flatMap((_, c) => [curve.centre[c], curve.distance[c], curve.recruits?.[c].cells.length,
      curve.survivors?.[c].cells.length, ...curve.layer_change[c]])];
  /** @type {(value: string | Measured | undefined) => string} */
  const quoted = (value) => {
    const cell = `${value ?? ""}`;
    return /[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
  };
  const rows = [head, ...frames.map((frame) => row(frame, epoch.split("|")[0])), ...control.map((curve) => row(curve, "control"))];
  return rows.map((cells) => cells.map(quoted).join(",")).join("\n") + "\n";
}
