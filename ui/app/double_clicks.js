// Swallows the second click of a double click on the buttons of actions.py, before Streamlit sees it: the browser numbers the
// clicks of a series, however long the page needed to redraw between them. The listener belongs to the document, which
// outlives every redraw, and is added once because a module is loaded once.

const ACTION = '[class*="st-key-action-"]';   // the class that Streamlit makes of the keys of actions.py

document.addEventListener("click", (event) => {
  if (event.detail < 2 || !(event.target instanceof Element) || !event.target.closest(ACTION)) return;
  event.stopImmediatePropagation();
  event.preventDefault();
}, { capture: true });

export default function doubleClicks() {}
