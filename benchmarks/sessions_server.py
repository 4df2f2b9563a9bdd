"""Twenty people on one dashboard as its server sees them: what their browsers say, without the browsers.

    python benchmarks/sessions_server.py [--sessions 20] [--windows 2] [--queued 5] [--minutes 3] [--pause 10] [--json]

In `sessions.py` twenty windows of Chromium share the machine with the server, and draw. People have machines of their own.
Here the server and the worker have this machine: the default model relearns, five runs wait, and every session says what
a browser says (Streamlit's messages over a WebSocket, the questions for updates over HTTP) and clicks: another mode, another scale, another page, and back. Measured is the time from the message of a click until
what it asked for is here and its run has ended. `--windows` of the sessions are windows of Chromium all the same, whose
clicks are measured until the page shows what was asked for. Each session checks that it gets its own run and settings.

The last line with --json: sessions, queued, interactions, p50_seconds, p95_seconds, errors, cross_talk.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import sessions as crowd
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.typing import Origin, Subprotocol

from analysis import concepts, runs
from analysis.models.catalog import DEFAULT_MODEL
from analysis.relearning import RelearnConfig

_PAUSE, _HOLD, _ALL_EVERY = 0.2, 2.0, 5.0
"""As `ui.relearn.live` and `ui.app.shell` have their lines ask."""
_PATIENCE = 120.0


@dataclass
class Session:
    """One person's page, as far as the server can tell."""

    number: int
    url: str
    run: str
    tally: crowd.Tally
    socket: websockets.ClientConnection
    page: str = ""
    pages: dict[str, str] = field(default_factory=dict)
    widgets: dict[str, WidgetState] = field(default_factory=dict)
    fragments: dict[str, str] = field(default_factory=dict)
    latest: str | None = None
    shown: str | None = None
    mode: str = "since the edit"
    scale: str = "standardised"

    async def arrive(self) -> None:
        await self.ask(lambda message: _is_component(message, "palimpsest_migration"), page_name="relearn")

    async def ask(
        self, arrived: Callable[[ForwardMsg], bool], *, page: str = "", page_name: str = "", fragment: str = ""
    ) -> None:
        """Say that something was clicked, and wait until what it asked for is here and the run has ended."""
        said = BackMsg()
        said.rerun_script.query_string = f"run={self.run}"
        said.rerun_script.page_script_hash = page or self.page
        said.rerun_script.page_name = page_name
        said.rerun_script.fragment_id = fragment
        said.rerun_script.widget_states.widgets.extend(self.widgets.values())
        await self.socket.send(said.SerializeToString())
        await asyncio.wait_for(self.hear_until(arrived), _PATIENCE)

    async def hear_until(self, arrived: Callable[[ForwardMsg], bool]) -> None:
        """Take in messages until the end of a run that comes after the one asked about."""
        here = False
        while True:
            message = await self.hear()
            here = here or arrived(message)
            if here and message.WhichOneof("type") == "script_finished":
                return

    async def hear(self) -> ForwardMsg:
        """Take in one message, as far as a browser would have to remember it."""
        message = ForwardMsg()
        message.ParseFromString(await self.socket.recv(decode=False))
        match message.WhichOneof("type"):
            case "navigation":
                self.page = message.navigation.page_script_hash
                self.pages = {page.url_pathname: page.page_script_hash for page in message.navigation.app_pages}
            case "delta":
                self._remember(message)
        return message

    def _remember(self, message: ForwardMsg) -> None:
        element = message.delta.new_element
        kind = element.WhichOneof("type")
        if kind == "exception":
            self.tally.errors.append(f"session {self.number}: {element.exception.message[:300]}")
        elif kind == "button_group":
            for name in ("mode", "view_scale"):
                if element.button_group.id.endswith(f"-{name}"):
                    self.fragments[name] = message.delta.fragment_id
                    self.widgets.setdefault(name, WidgetState(id=element.button_group.id))
        elif kind == "bidi_component":
            part = element.bidi_component
            self.fragments[part.component_name] = message.delta.fragment_id
            if part.component_name.endswith("palimpsest_live_line") and f"line {self.run}" in part.id:
                self.shown = json.loads(part.json)["version"]
                self.latest = self.latest or self.shown
            if part.component_name.endswith("palimpsest_migration"):
                if not part.id.endswith(f"canvas {self.run}"):
                    self.tally.cross_talk.append(f"session {self.number} got {part.id}")
                # so that the server does not take the canvas for one that was just mounted
                self.widgets["canvas"] = WidgetState(id=part.id, json_value="{}")

    async def redraw(self) -> None:
        """The line above the canvas has heard of a snapshot, and has its part of the page run again."""
        fragment = self.fragments["palimpsest_migration"]
        await self.ask(lambda message: message.WhichOneof("type") == "script_finished", fragment=fragment)

    async def choose(self, name: str, value: str, sentence: str) -> None:
        self.widgets[name].string_array_value.data[:] = [value]
        begun = time.perf_counter()
        await self.ask(
            lambda message: sentence in message.delta.new_element.markdown.body, fragment=self.fragments[name]
        )
        self.tally.seconds[name].append(time.perf_counter() - begun)

    async def act(self) -> None:
        """Do one thing at random."""
        what = random.choice(["mode", "view_scale", "page"])
        if what == "mode":
            self.mode = next(name for name in crowd.MODES if name != self.mode)
            await self.choose("mode", self.mode, crowd.MODES[self.mode])
        elif what == "view_scale":
            self.scale = next(name for name in crowd.SCALES if name != self.scale)
            await self.choose("view_scale", self.scale, crowd.SCALES[self.scale])
        else:
            await self.visit()

    async def visit(self) -> None:
        """To another page and back; then the page must show this session's own settings."""
        kept = {name: self.widgets.pop(name) for name in ("mode", "view_scale", "canvas")}
        begun = time.perf_counter()
        await self.ask(lambda message: message.delta.new_element.heading.body == "Compare", page=self.pages["compare"])
        self.tally.seconds["another page"].append(time.perf_counter() - begun)
        await asyncio.sleep(random.uniform(1, 3))
        sentences: set[str] = set()

        def arrived(message: ForwardMsg) -> bool:
            sentences.add(message.delta.new_element.markdown.body)
            return _is_component(message, "palimpsest_migration")

        begun = time.perf_counter()
        await self.ask(arrived, page=self.pages["relearn"])
        self.tally.seconds["page back"].append(time.perf_counter() - begun)
        self.widgets |= {name: kept[name] for name in ("mode", "view_scale")}
        told = " ".join(sentences)
        for sentence in (crowd.MODES[self.mode], crowd.SCALES[self.scale]):
            if sentence not in told:
                self.tally.cross_talk.append(f"session {self.number} lost “{sentence}”")

    async def live(self, until: float, pause: float) -> None:
        """Watch, redraw when the version has changed, and click now and then."""
        act_at = time.monotonic() + pause * random.uniform(0.2, 1.5)
        while time.monotonic() < until:
            try:
                if self.latest != self.shown and self.page == self.pages["relearn"]:
                    self.shown = self.latest
                    await self.redraw()
                elif time.monotonic() >= act_at:
                    await self.act()
                    act_at = time.monotonic() + pause * random.uniform(0.5, 1.5)
            except Exception as error:  # noqa: BLE001 (whatever a session runs into is what is counted here)
                self.tally.errors.append(f"session {self.number}: {type(error).__name__} {error}"[:300])
                return
            await asyncio.sleep(0.05)

    async def listen(self) -> None:
        """Ask for updates of the run, as the line above the canvas does."""
        async with httpx.AsyncClient(timeout=30) as client:
            while True:
                asked = {"run": self.run, "seen": self.latest or "", "hold": str(_HOLD)}
                self.latest = (await client.get(f"{self.url}/updates", params=asked)).json()["version"]
                await asyncio.sleep(_PAUSE)

    async def look_around(self) -> None:
        """Ask for all that goes on, as the lines of the sidebar and of the queue do."""
        async with httpx.AsyncClient(timeout=30) as client:
            while True:
                for _ in range(2):
                    await client.get(f"{self.url}/updates?all")
                await asyncio.sleep(_ALL_EVERY)


def _is_component(message: ForwardMsg, name: str) -> bool:
    return message.delta.new_element.bidi_component.component_name.endswith(name)


async def _crowd(url: str, run: str, options: argparse.Namespace, tally: crowd.Tally) -> None:
    for number in range(options.queued):
        waiting = RelearnConfig(model=DEFAULT_MODEL, concept="capitals", steps=3, seed=number, control=False)
        runs.start(waiting, concepts={"capitals": concepts.load("capitals")}, owner=f"person {number}")
    sessions = []
    for number in range(options.windows, options.sessions):
        socket = await websockets.connect(
            f"{url.replace('http', 'ws')}/_stcore/stream",
            subprotocols=[Subprotocol("streamlit")],
            max_size=None,
            origin=Origin(url),
        )
        sessions.append(Session(number, url, run, tally, socket))
        await sessions[-1].arrive()
    crowd._say(f"{len(sessions)} sessions watch, and {options.windows} windows")
    windows = crowd.Tally()
    asking = [asyncio.create_task(task) for one in sessions for task in (one.listen(), one.look_around())]
    until = time.monotonic() + 60 * options.minutes
    people = [one.live(until, options.pause) for one in sessions]
    await asyncio.gather(*people, crowd.windows(url, run, options.windows, until, options.pause, windows))
    for name, seconds in windows.seconds.items():
        tally.seconds[name if name == crowd.LOADING else f"window: {name}"] = seconds
    tally.errors += windows.errors
    tally.cross_talk += windows.cross_talk
    for task in asking:
        task.cancel()
        if task.done() and not task.cancelled() and task.exception():
            tally.errors.append(f"asking: {task.exception()}")
    for one in sessions:
        await one.socket.close()


if __name__ == "__main__":
    crowd.main(_crowd, __doc__, pause=10, windows=2)
