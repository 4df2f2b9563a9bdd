// A line that keeps itself up to date: what a job is doing, and how far it is. It asks the server, and has the part of the
// page around it run again only when there is more to show than its own text. No globals: the state of an instance lives
// in a WeakMap keyed by its parent element, because the default export runs again at every update.

const ASK_AGAIN = 3000;           // milliseconds, when there is no answer, or the page was told and did not come back with it
const TELL_ANYWAY = 3;            // questions in a row without an answer, after which the page is drawn anew again and again
const TOO_LONG = 10_000;          // milliseconds over what the answer may be held back
const STAY = 1000;                // cleanup of an overtaken update comes before the next one is here

/**
 * What the server says: a text, a share of the work (null: unknown), and `what`, which is another with every news.
 * @typedef {{ text: string, share: number | null, what: string }} Told
 * @typedef {Told & { quiet: boolean, small: boolean, address: string, hold: number, every: number }} Data
 * @typedef {(name: "news", value: string) => void} SetTrigger
 * @typedef {HTMLElement | ShadowRoot} Parent
 * @typedef {{ root: HTMLElement, text: HTMLElement, bar: HTMLElement, done: HTMLElement, calls: number,
 *   stop: AbortController, told: { what: string, at: number } | null, data: Data, setTriggerValue: SetTrigger }} Line
 */

/** @type {WeakMap<Parent, Line>} */
const instances = new WeakMap();

/** @type {(call: { data: Data, parentElement: Parent, setTriggerValue: SetTrigger }) => () => unknown} */
export default function liveLine({ data, parentElement, setTriggerValue }) {
  let line = instances.get(parentElement);
  if (!line) {
    line = mount(parentElement, data, setTriggerValue);
    instances.set(parentElement, line);
  }
  Object.assign(line, { data, setTriggerValue });
  show(line, data);
  const [mounted, call] = [line, ++line.calls];
  return () => setTimeout(() => {
    if (mounted.calls !== call) return;
    mounted.stop.abort();
    mounted.root.remove();
    if (instances.get(parentElement) === mounted) instances.delete(parentElement);
  }, STAY);
}

/** @type {(parent: Parent, data: Data, setTriggerValue: SetTrigger) => Line} */
function mount(parent, data, setTriggerValue) {
  const root = document.createElement("div");
  root.className = "live-line";
  const [text, bar, done] = ["text", "bar", "done"].map((name) => {
    const part = document.createElement("div");
    part.className = name;
    return part;
  });
  bar.append(done);
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  root.append(text, bar);
  parent.append(root);
  /** @type {Line} */
  const line = { root, text, bar, done, calls: 0, stop: new AbortController(), told: null, data, setTriggerValue };
  queueMicrotask(() => goOn(line));
  return line;
}

/** @type {(line: Line, told: Told) => void} */
function show({ root, text, bar, done, data }, told) {
  root.hidden = data.quiet;
  if (data.quiet) return;
  root.classList.toggle("small", data.small);
  if (text.textContent !== told.text) text.textContent = told.text;
  text.hidden = !told.text;
  bar.hidden = told.share === null;
  if (told.share === null) return;
  const percent = Math.round(100 * Math.min(1, Math.max(0, told.share)));
  done.style.width = `${percent}%`;
  bar.setAttribute("aria-valuenow", String(percent));
  bar.setAttribute("aria-label", told.text);
}

/** @type {(line: Line) => Promise<void>} */
async function goOn(line) {
  let unanswered = 0;
  while (!line.stop.signal.aborted) {
    const answered = document.hidden || await ask(line);
    unanswered = answered ? 0 : unanswered + 1;
    if (unanswered >= TELL_ANYWAY && !line.stop.signal.aborted) line.setTriggerValue("news", `none, ${unanswered}`);
    await new Promise((resolve) => setTimeout(resolve, answered ? line.data.every : ASK_AGAIN));
  }
}

/**
 * Whether there was an answer.
 * @type {(line: Line) => Promise<boolean>}
 */
async function ask(line) {
  const { address, hold, what } = line.data;
  const fresh = line.told && performance.now() - line.told.at < ASK_AGAIN ? line.told : null;
  const url = new URL(address, document.baseURI);
  url.searchParams.set("seen", fresh?.what ?? what);
  url.searchParams.set("hold", `${hold}`);
  const soon = AbortSignal.timeout(1000 * hold + TOO_LONG);
  const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.any([line.stop.signal, soon]) })
    .then((response) => (response.ok ? response.json() : null))
    .catch(() => null);
  if (typeof answer?.what !== "string") return false;   // a page, as servers and proxies give for what they do not know
  if (line.data.address !== address) return true;       // the line is another run's by now
  show(line, answer);
  // What is shown may have come up to date while the answer was on its way.
  if (answer.what !== line.data.what && fresh?.what !== answer.what) {
    line.told = { what: answer.what, at: performance.now() };
    line.setTriggerValue("news", answer.what);
  }
  return true;
}
