// Asks the browser for one more animation frame.

/** @import { View } from "./types" */

/** @type {(view: View) => void} */
export function invalidate(view) {
  if (!view.request && !view.stop.signal.aborted) {
    view.request = requestAnimationFrame((now) => view.tick(now));
  }
}
