"""Twenty people on one dashboard: browser sessions that watch one live run and click, while five runs wait.

    python benchmarks/sessions.py [--sessions 20] [--queued 5] [--minutes 3] [--pause 30] [--json]

The default model relearns in a worker, and a dashboard on a free port serves headless Chromium, every session a window and
a profile of its own, all of it on this machine. Each session looks for a while, clicks, and the time until the page shows what was
asked for is measured: another mode, another scale, another page, and back. At times it loads the page anew, which is
measured by itself: most of that is the browser's work. Some of the sessions put a run into the queue first. Afterwards, and
before every click, a session must still show what it chose itself.

The last line with --json: sessions, queued, interactions, p50_seconds, p95_seconds, errors, cross_talk.
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright, expect

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run from anywhere, without installing

from analysis import concepts, paths, runs
from analysis.jobs import queue
from analysis.models.catalog import DEFAULT_MODEL
from analysis.relearning import RelearnConfig

MODES = {"since the edit": "Change since right after the edit.", "since the base": "Change since before the edit."}
SCALES = {"standardised": "d' (difference in standard deviations).", "raw": "Probeless, in activation units."}
"""What the page says of each."""
_PATIENCE = 120_000
LOADING = "loading anew"
expect.set_options(timeout=_PATIENCE)
_OWN_PROBES = re.compile(r"/_stcore/(health|host-config)$")


@dataclass
class Tally:
    """What all sessions saw."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    cross_talk: list[str] = field(default_factory=list)


@dataclass
class Session:
    """One person: what they chose, and the page they see."""

    number: int
    page: Page
    run: str
    tally: Tally
    mode: str = "since the edit"
    scale: str = "standardised"

    async def act(self) -> None:
        """Do one thing at random, measure it, and check that the page is still this session's own."""
        await self.check()
        await getattr(self, random.choice(["change_mode", "change_scale", "change_page", "load_anew"]))()

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measure what the block waits for."""
        begun = time.perf_counter()
        yield
        self.tally.seconds[name].append(time.perf_counter() - begun)

    async def change_mode(self) -> None:
        self.mode = next(name for name in MODES if name != self.mode)
        with self.timed("mode"):
            await self.page.get_by_role("radio", name=self.mode, exact=True).click()
            await expect(self.page.get_by_text(re.compile(re.escape(MODES[self.mode])))).to_be_visible()

    async def change_scale(self) -> None:
        self.scale = next(name for name in SCALES if name != self.scale)
        with self.timed("scale"):
            await self.page.get_by_role("radio", name=self.scale, exact=True).click()
            await expect(self.page.get_by_text(re.compile(re.escape(SCALES[self.scale])))).to_be_visible()

    async def change_page(self) -> None:
        """To another page and back."""
        sidebar = self.page.get_by_test_id("stSidebarNav")
        with self.timed("another page"):
            await sidebar.get_by_text("Compare", exact=True).click()
            await expect(self.page.get_by_role("heading", name="Compare", level=1)).to_be_visible()
        await asyncio.sleep(random.uniform(2, 4))
        with self.timed("page back"):
            await sidebar.get_by_text("Relearn", exact=True).click()
            await self.shown()

    async def load_anew(self) -> None:
        with self.timed(LOADING):
            await self.page.reload()
            await self.shown()

    async def shown(self) -> None:
        """Wait for the live view."""
        await self.page.locator("[data-frames]").first.wait_for(timeout=_PATIENCE)

    async def check(self) -> None:
        """Whether the page shows this session's run and settings."""
        for name in (self.mode, self.scale):
            chosen = await self.page.get_by_role("radio", name=name, exact=True).get_attribute("aria-checked")
            if chosen != "true":
                self.tally.cross_talk.append(f"session {self.number} lost “{name}”")
        if f"run={self.run}" not in self.page.url:
            self.tally.cross_talk.append(f"session {self.number} is at {self.page.url}")
        for alert in await self.page.get_by_test_id("stException").all_inner_texts():
            self.tally.errors.append(f"session {self.number}: {alert[:300]}")


People = Callable[[str, str, argparse.Namespace, Tally], Coroutine[None, None, None]]
"""What they do at this address, watching this run."""


def main(people: People, about: str | None, pause: float, windows: int | None = None) -> None:
    """Start everything, let people click, and print the numbers.

    Args:
        people: What they do.
        about: What the command is for.
        pause: Default seconds between what a session does.
        windows: Default number of sessions that are windows of a browser, where that can be chosen.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--queued", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--pause", type=float, default=pause, help="seconds between what a session does, on average")
    if windows is not None:
        parser.add_argument("--windows", type=int, default=windows, help="of the sessions, windows of Chromium")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    random.seed(options.seed)
    models = paths.home() / "models"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        os.environ["PALIMPSEST_HOME"] = folder
        (home / "models").symlink_to(models, target_is_directory=True)
        try:
            result = _measure(home, options, people)
        finally:
            for entry in queue.entries():
                queue.cancel(entry.path)
            _wait_for_the_end()
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name}: {value}")


def _measure(home: Path, options: argparse.Namespace, people: People) -> dict:
    config = RelearnConfig(
        model=DEFAULT_MODEL, concept="capitals", steps=5000, cadence="steps", snapshot_every=3, control=False
    )
    run = runs.start(config, concepts={"capitals": concepts.load("capitals")}, owner="the first")
    _say("waiting for the run's first snapshots")
    while run.n_snapshots() < 3:
        if not run.status().active:
            sys.exit(f"The run has ended: {run.status().message}")
        time.sleep(1)
    tally = Tally()
    before = run.n_snapshots()
    with _served(home) as url:
        asyncio.run(people(url, run.name, options, tally))
    traces = (home / "server.log").read_text(errors="replace").count("Traceback")
    waiting = [entry for entry in queue.entries() if entry.state == "queued"]
    values = sorted(value for name, of_kind in tally.seconds.items() if name != LOADING for value in of_kind)
    return {
        "sessions": options.sessions,
        "queued": len(waiting),
        "places": [entry.place for entry in waiting],
        "interactions": len(values),
        "p50_seconds": round(statistics.median(values), 3),
        "p95_seconds": round(values[int(0.95 * len(values))], 3),
        "seconds_between_interactions": options.pause,
        "p95_by_kind": {
            name: round(sorted(of_kind)[int(0.95 * len(of_kind))], 3) for name, of_kind in tally.seconds.items()
        },
        "errors": len(tally.errors) + traces,
        "cross_talk": len(tally.cross_talk),
        "snapshots_meanwhile": run.n_snapshots() - before,
        "messages": [*tally.errors, *tally.cross_talk][:10],
    }


@asynccontextmanager
async def _chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        yield browser
        await browser.close()


async def windows(url: str, run: str, count: int, until: float, pause: float, tally: Tally) -> None:
    """So many people with a window each, until then."""
    async with _chromium() as browser:
        sessions = [await _arrive(browser, url, run, number, tally) for number in range(count)]
        await asyncio.gather(*(_live(session, until, pause) for session in sessions))
        for session in sessions:
            await session.check()


async def _crowd(url: str, run: str, options: argparse.Namespace, tally: Tally) -> None:
    async with _chromium() as browser:
        sessions = [await _arrive(browser, url, run, number, tally) for number in range(options.sessions)]
        _say(f"{len(sessions)} sessions watch")
        for session in sessions[: options.queued]:
            await _queue_one(session, url)
        _say(f"{options.queued} runs queued")
        until = time.monotonic() + 60 * options.minutes
        await asyncio.gather(*(_live(session, until, options.pause) for session in sessions))
        for session in sessions:
            await session.check()


async def _arrive(browser: Browser, url: str, run: str, number: int, tally: Tally) -> Session:
    # A browser context each: of the tabs of one context Chromium draws the front one only, and a click waits for that.
    page = await browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(_PATIENCE)
    page.on("pageerror", lambda error: tally.errors.append(f"session {number}: {error}"))

    def heard(message) -> None:
        if message.type == "error" and not _OWN_PROBES.search(message.location.get("url", "")):
            tally.errors.append(f"session {number}: {message.text}")

    page.on("console", heard)
    await page.goto(f"{url}/relearn?run={run}")
    session = Session(number, page, run, tally)
    await session.shown()
    return session


async def _queue_one(session: Session, url: str) -> None:
    """Start another run from the page, which goes to the end of the line, and come back to the one that is live."""
    page = session.page
    await page.goto(f"{url}/relearn?run={session.run}&steps=3&control=false&seed={session.number}")
    await session.shown()
    await page.get_by_text("New run").first.click()
    await page.get_by_role("button", name="Start relearning").click()
    await expect(page).not_to_have_url(re.compile(re.escape(f"run={session.run}")), timeout=_PATIENCE)
    await page.goto(f"{url}/relearn?run={session.run}")
    await session.shown()


async def _live(session: Session, until: float, pause: float) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        try:
            await session.act()
        except Exception as error:  # noqa: BLE001 (whatever a session runs into is what is counted here)
            text = await session.page.inner_text("body")
            session.tally.errors.append(f"session {session.number}: {error}"[:400])
            _say(f"session {session.number} at {session.page.url}: {str(error)[:600]}\nsees {text[-1500:]!r}")
            await session.page.reload()


@contextmanager
def _served(home: Path) -> Iterator[str]:
    """The dashboard on a free port of this machine, its log in the home folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        time.sleep(5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for_the_end() -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and queue.entries():
        time.sleep(0.5)


def _say(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(_crowd, __doc__, pause=30)
