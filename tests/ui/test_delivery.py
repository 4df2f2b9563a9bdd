"""What is drawn reaches the browser, whatever runs in between."""

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue

from ui import delivery

LIVE = "the live view"


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> ForwardMsgQueue:
    """What waits for the browser: the page's run, with a container and, in it, an element that the browser has cached."""
    monkeypatch.setattr(ForwardMsgQueue, "clear", ForwardMsgQueue.clear)  # put back afterwards
    delivery.keep_in_order()
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
    original = delivery._clear
    queue.enqueue(_block([0, 1], LIVE))
    queue.enqueue(_cached([0, 1, 0]))
    original(queue, True, [LIVE])
    assert [_path(message) for message in queue._queue] == [[0, 1, 0]]


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
