"""What is drawn reaches the browser, whatever runs in between, and on the page it was drawn for."""

from contextvars import copy_context
from types import SimpleNamespace

import pytest
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.fragment import MemoryFragmentStorage
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

from ui.app import streamlit_patches

LIVE = "the live view"
MAIN, RELEARN, COMPARE = "main", "relearn", "compare"
"""Scripts: what runs for every page, and two pages."""


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit as the dashboard changes it, until the test is over."""
    for owner, name in (
        (ForwardMsgQueue, "clear"),
        (MemoryFragmentStorage, "register"),
        (AppSession, "_enqueue_forward_msg"),
        (AppSession, "request_rerun"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back afterwards
    streamlit_patches.apply()


@pytest.fixture
def queue() -> ForwardMsgQueue:
    """What waits for the browser: the page's run, with a container and, in it, an element that the browser has cached."""
    queue = ForwardMsgQueue()
    for message in (_block([0, 0]), _block([0, 1], LIVE), _cached([0, 1, 0]), _element([0, 1, 1], LIVE, "page")):
        queue.enqueue(message)
    queue.enqueue(ForwardMsg(script_finished=ForwardMsg.ScriptFinishedStatus.FINISHED_SUCCESSFULLY))
    return queue


def test_a_poll_leaves_what_waits_to_be_sent(queue: ForwardMsgQueue):
    before = list(queue._queue)
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=[LIVE])
    assert queue._queue == before


def test_what_a_poll_draws_comes_after_the_end_of_the_run_before(queue: ForwardMsgQueue):
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=[LIVE])
    queue.enqueue(_element([0, 1, 1], LIVE, "poll"))
    sent = queue.flush()
    assert [message.WhichOneof("type") for message in sent][-2:] == ["script_finished", "delta"]
    assert [message.delta.new_element.markdown.body for message in sent if _path(message) == [0, 1, 1]] == [
        "page",
        "poll",
    ]


def test_a_run_of_the_whole_page_replaces_what_waits(queue: ForwardMsgQueue):
    queue.clear(retain_lifecycle_msgs=True)
    assert [message.WhichOneof("type") for message in queue.flush()] == ["script_finished"]


def test_this_is_still_needed():
    """Streamlit by itself keeps the cached element without its container; once it does not, this module can go."""
    queue = ForwardMsgQueue()
    original = streamlit_patches._clear
    queue.enqueue(_block([0, 1], LIVE))
    queue.enqueue(_cached([0, 1, 0]))
    original(queue, True, [LIVE])
    assert [_path(message) for message in queue._queue] == [[0, 1, 0]]


class Session:
    """The parts of Streamlit's session that take part: its fragments, and what is sent and asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._fragment_storage = MemoryFragmentStorage()
        self._pages_manager = SimpleNamespace(main_script_hash=MAIN)
        self.answered: list[str] = []
        monkeypatch.setattr(streamlit_patches, "_enqueue", lambda session, message: None)
        monkeypatch.setattr(
            streamlit_patches,
            "_request_rerun",
            lambda session, state: self.answered.append((state and state.fragment_id) or "page"),
        )

    def has_fragment(self, fragment: str) -> bool:
        return self._fragment_storage.contains(fragment)

    def draws(self, page: str, **fragments: str) -> None:
        """A page is drawn with these fragments, each declared by this script."""
        navigation = ForwardMsg()
        navigation.navigation.page_script_hash = page
        AppSession._enqueue_forward_msg(self, navigation)  # type: ignore[arg-type]
        for fragment, script in fragments.items():
            copy_context().run(self._declare, fragment, script)

    def _declare(self, fragment: str, script: str) -> None:
        ThreadState.initialize(active_script_hash=script)
        self._fragment_storage.register(fragment, lambda: None)

    def asks(self, fragment: str = "", page: str = "") -> None:
        """The browser asks for a fragment, or for a whole page."""
        AppSession.request_rerun(self, ClientState(fragment_id=fragment, page_script_hash=page))  # type: ignore[arg-type]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session that shows Relearn, whose view polls, beside the polling sidebar of every page."""
    session = Session(monkeypatch)
    session.asks()  # the first visit names no page
    session.draws(RELEARN, live=RELEARN, sidebar=MAIN)
    session.answered.clear()
    return session


def test_polls_of_the_page_shown_are_answered(session: Session):
    session.asks("live", RELEARN)
    session.asks("sidebar", RELEARN)
    assert session.answered == ["live", "sidebar"]


def test_polls_of_a_page_that_was_left_are_not_answered(session: Session):
    session.asks(page=COMPARE)
    session.asks("live", RELEARN)  # the browser waits for the new page
    session.asks("sidebar", RELEARN)
    session.draws(COMPARE, sidebar=MAIN)
    session.asks("live", RELEARN)  # sent before the new page arrived
    session.asks("live", COMPARE)  # it arrived, and the old one's elements are still there
    assert session.answered == ["page"]
    session.asks("sidebar", COMPARE)
    assert session.answered == ["page", "sidebar"]


def test_polls_go_on_after_the_way_back(session: Session):
    session.asks(page=COMPARE)
    session.draws(COMPARE, sidebar=MAIN)
    session.asks(page=RELEARN)
    session.draws(RELEARN, live=RELEARN, sidebar=MAIN)
    session.asks("live", RELEARN)
    assert session.answered == ["page", "page", "live"]


def test_polls_of_a_page_that_code_led_to_are_answered(session: Session):
    session.draws(COMPARE, moved=COMPARE, sidebar=MAIN)
    session.asks("moved", COMPARE)
    session.asks("live", RELEARN)
    assert session.answered == ["moved"]


def test_what_the_server_asks_of_itself_is_answered(session: Session):
    AppSession.request_rerun(session, None)  # type: ignore[arg-type]
    assert session.answered == ["page"]


def _path(message: ForwardMsg) -> list[int]:
    return list(message.metadata.delta_path)


def _block(path: list[int], fragment: str = "") -> ForwardMsg:
    message = ForwardMsg()
    message.metadata.delta_path.extend(path)
    message.delta.add_block.allow_empty = True
    message.delta.fragment_id = fragment
    return message


def _element(path: list[int], fragment: str, body: str) -> ForwardMsg:
    message = ForwardMsg()
    message.metadata.delta_path.extend(path)
    message.delta.new_element.markdown.body = body
    message.delta.fragment_id = fragment
    return message


def _cached(path: list[int]) -> ForwardMsg:
    message = ForwardMsg(ref_hash="what the browser has")
    message.metadata.delta_path.extend(path)
    return message
