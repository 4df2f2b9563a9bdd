"""The live view of a run in a real browser: how often a snapshot draws the page anew, and what travels for it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from analysis import runs
from analysis.concepts import Concept
from analysis.runs import RunDirectory, execution
from tests.dashboard_server import served
from tests.e2e.conftest import OpenPage
from tests.replayed_run import ReplayedRun
from tests.small_runs import small_run

pytestmark = pytest.mark.browser
_A_FEW = 2
"""Reruns that may come on top of one for each snapshot: the page itself, and a change of the run's state."""
_SETTLED = 1500
"""Milliseconds in which whatever a snapshot sets off has been asked for: the playhead travels for 700, and rests for 250."""


class Traffic:
    """What a page and its server say to each other; messages to the canvas can be lost on the way."""

    def __init__(self, page: Page):
        self.reruns = 0
        """How often the browser asked for a part of the page to be drawn."""
        self.to_canvas: list[dict[str, Any]] = []
        """Headers of the messages that reached the canvas."""
        self.lose = False
        """Let the canvas have the message before in place of each that is sent."""
        self._last = b""
        page.route_web_socket("**/_stcore/stream", self._connect)

    def values(self) -> list[int]:
        """Snapshots whose values reached the canvas, in order."""
        return [index for header in self.to_canvas for index in header["values"]]

    def frames(self) -> list[int]:
        """Snapshots whose light parts reached the canvas, in order."""
        return [frame["index"] for header in self.to_canvas for frame in header["frames"]]

    def _connect(self, browser: WebSocketRoute) -> None:
        server = browser.connect_to_server()

        def to_server(payload: bytes | str) -> None:
            if isinstance(payload, bytes):
                self.reruns += BackMsg.FromString(payload).WhichOneof("type") == "rerun_script"
            server.send(payload)

        def to_browser(payload: bytes | str) -> None:
            message = ForwardMsg.FromString(payload) if isinstance(payload, bytes) else ForwardMsg()
            component = message.delta.new_element.bidi_component
            if component.component_name == "palimpsest_migration":
                if self.lose:  # as if React had drawn the element without having looked at this message
                    component.bytes = self._last
                    payload = message.SerializeToString()
                self._last = component.bytes
                self.to_canvas.append(_header(component.bytes))
            browser.send(payload)

        browser.on_message(to_server)
        server.on_message(to_browser)


def _header(message: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length])


@pytest.fixture(scope="module")
def home(browser: Browser, tiny_folder: Path, tiny_concept: Concept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with one finished run of 14 snapshots."""
    home = tmp_path_factory.mktemp("home")
    config = small_run(tiny_folder, tiny_concept, steps=12, snapshot_every=1)
    execution.execute(runs.create(config, home / "runs" / "one", concepts={tiny_concept.name: tiny_concept}))
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    with served(home) as url:
        yield url


@pytest.fixture
def run(home: Path) -> Iterator[ReplayedRun]:
    """The run with its first four snapshots, at work."""
    replayed = ReplayedRun(RunDirectory(home / "runs" / "one"), home / "aside")
    replayed.publish(4)
    yield replayed
    replayed.finish()


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page()


def _opened(page: Page, server: str, count: int) -> Locator:
    """The canvas, once it shows the run's `count` snapshots and has come to rest."""
    page.goto(f"{server}/relearn?run=one")
    view = page.locator(".palimpsest").first
    _settled(page, view, count)
    return view


def _settled(page: Page, view: Locator, count: int) -> None:
    expect(view).to_have_attribute("data-frames", str(count), timeout=60_000)
    page.wait_for_timeout(_SETTLED)


def test_a_snapshot_draws_the_page_once_and_nothing_travels_twice(server: str, page: Page, run: ReplayedRun):
    traffic = Traffic(page)
    view = _opened(page, server, 4)
    for count in range(5, run.count + 1):
        run.publish(count)
        _settled(page, view, count)
    expect(view).to_have_attribute("data-index", str(run.count - 1))
    assert traffic.reruns <= run.count - 4 + _A_FEW
    assert traffic.values() == traffic.frames() == list(range(run.count))
    assert view.get_attribute("data-mounts") == "1"


def test_a_reader_who_looks_back_costs_one_rerun_more(server: str, page: Page, run: ReplayedRun):
    traffic = Traffic(page)
    view = _opened(page, server, 4)
    page.locator(".palimpsest .stage").focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(_SETTLED)
    for count in range(5, 9):
        run.publish(count)
        _settled(page, view, count)
    expect(view).to_have_attribute("data-index", "0")
    assert traffic.reruns <= 4 + 1 + _A_FEW
    assert traffic.values() == list(range(8))


def test_a_canvas_that_is_new_on_the_page_is_sent_everything(server: str, page: Page, run: ReplayedRun):
    traffic = Traffic(page)
    view = _opened(page, server, 4)
    traffic.to_canvas.clear()
    page.reload()
    _settled(page, view, 4)
    assert traffic.values() == traffic.frames() == [0, 1, 2, 3]
    traffic.to_canvas.clear()
    page.get_by_role("link", name="Compare").click()
    expect(view).to_have_count(0)
    page.get_by_role("link", name="Relearn").click()
    _settled(page, view, 4)
    assert traffic.values() == traffic.frames() == [0, 1, 2, 3]


def test_a_lost_message_is_made_good(server: str, page: Page, run: ReplayedRun):
    traffic = Traffic(page)
    view = _opened(page, server, 4)
    traffic.lose = True
    run.publish(5)
    page.wait_for_timeout(_SETTLED)
    expect(view).to_have_attribute("data-frames", "4")
    traffic.lose = False
    before = traffic.reruns
    run.publish(6)
    _settled(page, view, 6)
    assert traffic.reruns == before + 2  # the snapshot, and what was missing
    assert traffic.to_canvas[-1]["start"] == 4
    run.publish(7)
    _settled(page, view, 7)
    assert traffic.reruns == before + 3
    assert traffic.to_canvas[-1]["start"] == 6
    expect(view).to_have_attribute("data-held", "7")
