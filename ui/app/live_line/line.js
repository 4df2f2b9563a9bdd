// A line that keeps itself up to date: a job's current stage and progress. It requests updates from the server, and reruns
// the fragment around it only when more than its own text has changed. No globals: the state of an instance is in a WeakMap
// keyed by its parent element, because the default export runs again at every update.

const ASK_AGAIN = 3000;           // milliseconds, after no answer, or after a rerun was asked for that did not come
const RERUN_ANYWAY = 3;           // requests in a row without an answer, after which the fragment reruns at every request
const TIMEOUT = 10_000;           // milliseconds on top of the time for which the answer may be held back
const UNMOUNT_DELAY = 1000;       // Streamlit cleans up an overtaken update before the next one is here

/**
 * The server's answer: a text, the share of the work that is done (null: unknown), and a version, which changes whenever
 * more than these two has changed.
 * @typedef {{ text: string, progress: number | null, version: string }} Update
 * @typedef {Update & { quiet: boolean, small: boolean, address: string, hold: number, every: number }} Data
 * @typedef {(name: "version", value: string) => void} SetTrigger
 * @typedef {HTMLElement | ShadowRoot} Parent
 * @typedef {{ root: HTMLElement, text: HTMLElement, bar: HTMLElement, done: HTMLElement, calls: number,
 *   stop: AbortController, reported: { version: string, at: number } | null, data: Data, setTriggerValue: SetTrigger }} Line
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
  }, UNMOUNT_DELAY);
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
  const line = { root, text, bar, done, calls: 0, stop: new AbortController(), reported: null, data, setTriggerValue };
  queueMicrotask(() => askRepeatedly(line));
  return line;
}

/** @type {(line: Line, update: Update) => void} */
function show({ root, text, bar, done, data }, update) {
  root.hidden = data.quiet;
  if (data.quiet) return;
  root.classList.toggle("small", data.small);
  if (text.textContent !== update.text) text.textContent = update.text;
  text.hidden = !update.text;
  bar.hidden = update.progress === null;
  if (update.progress === null) return;
  const percent = Math.round(100 * Math.min(1, Math.max(0, update.progress)));
  done.style.width = `${percent}%`;
  bar.setAttribute("aria-valuenow", String(percent));
  bar.setAttribute("aria-label", update.text);
}

/** @type {(line: Line) => Promise<void>} */
async function askRepeatedly(line) {
  let unanswered = 0;
  while (!line.stop.signal.aborted) {
    const answered = document.hidden || await ask(line);
    unanswered = answered ? 0 : unanswered + 1;
    if (unanswered >= RERUN_ANYWAY && !line.stop.signal.aborted) line.setTriggerValue("version", `none, ${unanswered}`);
    await new Promise((resolve) => setTimeout(resolve, answered ? line.data.every : ASK_AGAIN));
  }
}

/**
 * Sends one request; resolves to whether there was an answer.
 * @type {(line: Line) => Promise<boolean>}
 */
async function ask(line) {
  const { address, hold, version } = line.data;
  const fresh = line.reported && performance.now() - line.reported.at < ASK_AGAIN ? line.reported : null;
  const url = new URL(address, document.baseURI);
  url.searchParams.set("seen", fresh?.version ?? version);
  url.searchParams.set("hold", `${hold}`);
  const timeout = AbortSignal.timeout(1000 * hold + TIMEOUT);
  const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.any([line.stop.signal, timeout]) })
    .then((response) => (response.ok ? response.json() : null))
    .catch(() => null);
  if (typeof answer?.version !== "string") return false;   // servers and proxies answer unknown addresses with a page
  if (line.data.address !== address) return true;       // the line shows another run by now
  show(line, answer);
  // The page may have been updated while the answer was on its way.
  if (answer.version !== line.data.version && fresh?.version !== answer.version) {
    line.reported = { version: answer.version, at: performance.now() };
    line.setTriggerValue("version", answer.version);
  }
  return true;
}
