// The logit-lens table: a row for each layer, the last layer on top, a column for each position.
// Draws the cells and moves between them by keys; the strength of each colour is computed in Python.
// A token can be any text, so tokens only become text nodes.

/**
 * What Python decided: texts as they are shown; lists are per layer and position, `shade` is 0 to 100.
 * @typedef {{ layers: string[], tokens: string[], first: number, title: string, low: string, high: string,
 *   depth: number | null, answer: string | null, rank: number[][] | null, p_answer: string[][] | null,
 *   shade: number[][], top: string[][][], p: string[][][], entropy: string[][], kl: string[][] }} Data
 * @typedef {HTMLElement | ShadowRoot} Parent
 * @typedef {{ root: HTMLElement, legend: HTMLElement, frame: HTMLElement, card: HTMLElement, data: Data | null,
 *   cells: HTMLElement[][], at: HTMLElement | null, signature: string }} View
 */

/** @type {WeakMap<Parent, View>} */
const instances = new WeakMap();

/** @type {(call: { data: Data, parentElement: Parent }) => () => void} */
export default function lensTable({ data, parentElement }) {
  let view = instances.get(parentElement);
  if (!view) {
    view = mount(parentElement);
    instances.set(parentElement, view);
  }
  const signature = JSON.stringify(data);
  if (signature !== view.signature) draw(view, data);
  view.signature = signature;
  const { root } = view;
  return () => {
    root.remove();
    instances.delete(parentElement);
  };
}

/** @type {(parent: Parent) => View} */
function mount(parent) {
  const root = element("div", "lens");
  const legend = element("div", "legend");
  const frame = element("div", "frame");
  const card = element("div", "card");
  card.hidden = true;
  card.setAttribute("role", "status");
  root.append(legend, frame, card);
  parent.append(root);
  /** @type {View} */
  const view = { root, legend, frame, card, data: null, cells: [], at: null, signature: "" };
  frame.addEventListener("mouseover", ({ target }) => {
    const cell = target instanceof Element && target.closest("td");
    if (cell) showCard(view, cell);
  });
  frame.addEventListener("mouseleave", () => hideCard(view));
  frame.addEventListener("focusin", ({ target }) => {
    if (target instanceof HTMLElement) showCard(view, target);
  });
  frame.addEventListener("focusout", () => hideCard(view));
  frame.addEventListener("scroll", () => hideCard(view));
  frame.addEventListener("keydown", (event) => walk(view, event));
  return view;
}

/** @type {(view: View, data: Data) => void} */
function draw(view, data) {
  const samePrompt = view.data && view.data.tokens.join() === data.tokens.join();
  const left = view.frame.scrollLeft;
  Object.assign(view, { data, cells: [] });
  hideCard(view);
  drawLegend(view.legend, data);
  const table = element("table", "");
  table.setAttribute("role", "grid");
  table.setAttribute("aria-label", "Top prediction at each layer and position");
  const body = element("tbody", "");
  for (let row = data.layers.length - 1; row >= 0; row--) body.append(drawRow(view, data, row));
  table.append(body, drawTokens(data));
  table.style.minWidth = `${64 + 66 * data.tokens.length}px`;
  view.frame.replaceChildren(table);
  // the answer follows the last position
  view.frame.scrollLeft = samePrompt ? left : view.frame.scrollWidth;
  const first = view.cells[data.layers.length - 1][data.tokens.length - 1];
  first.tabIndex = 0;
}

/** @type {(legend: HTMLElement, data: Data) => void} */
function drawLegend(legend, data) {
  const scale = entry(`Colour: ${data.title}`);
  scale.append(element("span", "end", data.low), element("span", "ramp"), element("span", "end", data.high));
  const parts = [scale];
  if (data.answer !== null) parts.push(entry("the answer is the top prediction", "mark"));
  if (data.depth !== null) parts.push(entry("from here on it stays on top at the last position", "mark full"));
  legend.replaceChildren(...parts);
}

/** @type {(text: string, swatch?: string) => HTMLElement} */
function entry(text, swatch) {
  const made = element("span", "entry");
  if (swatch) made.append(element("span", swatch));
  made.append(element("span", "", text));
  return made;
}

/** @type {(view: View, data: Data, row: number) => HTMLElement} */
function drawRow(view, data, row) {
  const line = element("tr", row === data.depth ? "depth" : "");
  const label = element("th", "", data.layers[row]);
  label.scope = "row";
  if (row === data.depth) label.title = "From this layer on the answer stays the top prediction at the last position";
  line.append(label);
  view.cells[row] = data.tokens.map((_, position) => {
    const cell = element("td", "", data.top[row][position][0]);
    const isAnswer = data.rank !== null && data.rank[row][position] === 1;
    if (isAnswer) cell.classList.add("answer");
    cell.style.setProperty("--shade", `${data.shade[row][position] * 0.6}%`);
    cell.tabIndex = -1;
    Object.assign(cell.dataset, { row: `${row}`, position: `${position}` });
    line.append(cell);
    return cell;
  });
  return line;
}

/** @type {(data: Data) => HTMLElement} */
function drawTokens(data) {
  const foot = element("tfoot", "");
  const line = element("tr", "");
  line.append(element("th", "corner", "input"));
  data.tokens.forEach((token, position) => {
    const cell = element("th", "", token);
    cell.scope = "col";
    cell.title = `${token} (position ${data.first + position})`;
    line.append(cell);
  });
  foot.append(line);
  return foot;
}

// ---- one cell in full ---------------------------------------------------------------------------

/** @type {(view: View, cell: HTMLElement) => void} */
function showCard(view, cell) {
  const { data, card } = view;
  if (!data || cell.dataset.row === undefined || cell === view.at) return;
  const row = Number(cell.dataset.row), position = Number(cell.dataset.position);
  const where = data.layers[row] === "embed" ? "embedding" : `layer ${data.layers[row]}`;
  const lines = [element("b", "", `${where}, after “${data.tokens[position]}” (${data.first + position})`)];
  const list = element("div", "list");
  data.top[row][position].forEach((token, k) => {
    const bar = element("span", "bar");
    bar.style.width = `${Math.max(Number(data.p[row][position][k]) * 84, 1)}px`;
    list.append(element("code", "", token), bar, element("span", "number", data.p[row][position][k]));
  });
  lines.push(list);
  if (data.answer !== null && data.rank && data.p_answer) {
    const rank = data.rank[row][position].toLocaleString("en");
    const said = element("span", "said");
    said.append("answer ", element("code", "", data.answer), ` P ${data.p_answer[row][position]}, rank ${rank}`);
    lines.push(said);
  }
  lines.push(element("span", "said", `entropy ${data.entropy[row][position]}, KL ${data.kl[row][position]} nats`));
  card.replaceChildren(...lines);
  card.hidden = false;
  view.at?.classList.remove("at");
  view.at = cell;
  cell.classList.add("at");
  place(view, cell);
}

/**
 * Placed beside the cell, on the side with enough space, so that it never lies under the pointer.
 * @type {(view: View, cell: HTMLElement) => void}
 */
function place({ root, card }, cell) {
  const outer = root.getBoundingClientRect(), inner = cell.getBoundingClientRect();
  const right = inner.right - outer.left + 10;
  const left = right + card.offsetWidth > outer.width ? inner.left - outer.left - card.offsetWidth - 10 : right;
  const top = inner.top - outer.top + inner.height / 2 - card.offsetHeight / 2;
  const low = Math.max(0, Math.min(top, outer.height - card.offsetHeight));
  card.style.transform = `translate(${Math.max(0, left)}px, ${low}px)`;
}

/** @type {(view: View) => void} */
function hideCard(view) {
  view.card.hidden = true;
  view.at?.classList.remove("at");
  view.at = null;
}

/** @type {Map<string, [number, number]>} */
const STEPS = new Map([["ArrowUp", [1, 0]], ["ArrowDown", [-1, 0]], ["ArrowLeft", [0, -1]], ["ArrowRight", [0, 1]]]);

/** @type {(view: View, event: KeyboardEvent) => void} */
function walk(view, event) {
  const step = STEPS.get(event.key);
  if (event.key === "Escape") hideCard(view);
  if (!step || !(event.target instanceof HTMLElement)) return;
  const { row, position } = event.target.dataset;
  if (row === undefined) return;
  const next = view.cells[Number(row) + step[0]]?.[Number(position) + step[1]];
  event.preventDefault();
  if (!next) return;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

/** @type {<K extends keyof HTMLElementTagNameMap>(tag: K, className: string, text?: string) => HTMLElementTagNameMap[K]} */
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
