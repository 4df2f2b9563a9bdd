// Asks whether there is anything new to show, and has the page around the picture run again when there is.

const ASK_EVERY = 300;            // milliseconds
const ANSWER = /^\d+ [a-z]+( \d+ [a-z]+)?$/;   // snapshots and state, of the control as well
const ASK_AGAIN = 3000;           // when the page was told and has not come back with it

// Goes on for as long as the view is there; says nothing where the page gave no address, or nobody looks.
function listenForNews(view) {
  const next = () => setTimeout(() => ask(view).finally(() => { if (!view.stop.signal.aborted) next(); }), ASK_EVERY);
  next();
}

async function ask(view) {
  const { news, live } = view.store;
  if (!news || !live || document.hidden) return;
  const answer = await fetch(new URL(news.address, document.baseURI), { cache: "no-store", signal: view.stop.signal })
    .then((response) => (response.ok ? response.text() : null))
    .catch(() => null);
  // A page, which servers and proxies give for what they do not know, is no answer. And what is shown may have come up to
  // date while the answer was on its way.
  if (!ANSWER.test(answer ?? "") || answer === view.store.news?.shown) return;
  const now = performance.now();
  if (view.toldNews?.answer === answer && now - view.toldNews.at < ASK_AGAIN) return;
  view.toldNews = { answer, at: now };
  view.setTriggerValue("news", answer);
}
