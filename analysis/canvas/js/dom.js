// Makes and updates DOM nodes; text only through textContent.

/**
 * @type {<K extends keyof HTMLElementTagNameMap>(
 *   tag: K, className?: string, text?: string, attributes?: Record<string, string>
 * ) => HTMLElementTagNameMap[K]}
 */
export function node(tag, className, text, attributes = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** @type {(canvas: HTMLCanvasElement, settings?: CanvasRenderingContext2DSettings) => CanvasRenderingContext2D} */
export function contextOf(canvas, settings) {
  const context = canvas.getContext("2d", settings);
  if (!context) throw new Error("This browser gives no 2d context to draw on.");
  return context;
}

/** @type {(path: string) => SVGElement} */
export function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

/** @type {(element: HTMLElement, text: string) => void} */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
