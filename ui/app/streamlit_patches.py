"""What Streamlit has drawn reaches the browser, in the order in which it was drawn, and on the page for which it was drawn.

Where a live view polls, two habits of Streamlit 1.67 break the page, both on a server that is busy enough to keep things
waiting. `keep_in_order` ends them.

What waits to be sent: as a poll starts, Streamlit throws away what its fragment drew before and was not sent yet, for the
poll draws it again. Two things are left behind. Elements that the browser has cached are kept without the containers they
are in: the page cannot place them, and goes white. And the end of the page's own run is kept without the fragment's part of
it: the browser takes what the fragment shows for stale, and a picture there is mounted anew.

What is asked for: until a new page arrives, the browser goes on polling for the old one. Such a poll is joined with the
request for the new page and takes the reader back; or it waits until the new page is drawn, draws the old page's part into
it (which goes white) and takes the new page's choices out of the address. It is not answered: nobody sees what it would draw.
"""

from typing import Any
from weakref import WeakKeyDictionary

from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.fragment import Fragment, MemoryFragmentStorage
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

__all__ = ["keep_in_order"]

_clear = ForwardMsgQueue.clear
_register = MemoryFragmentStorage.register
_enqueue = AppSession._enqueue_forward_msg
_request_rerun = AppSession.request_rerun

_page_of: WeakKeyDictionary[AppSession, str] = WeakKeyDictionary()
"""The page (its hash) that each session asked for last, or was led to by a page's code."""


def keep_in_order() -> None:
    """Let what waits to be sent wait while a fragment runs, and let a fragment run on its own page only."""
    ForwardMsgQueue.clear = _clear_unless_fragment  # type: ignore[method-assign]
    MemoryFragmentStorage.register = _register_with_page  # type: ignore[method-assign]
    AppSession._enqueue_forward_msg = _enqueue_and_note_page  # type: ignore[method-assign]
    AppSession.request_rerun = _request_rerun_unless_left  # type: ignore[method-assign]


def _clear_unless_fragment(
    queue: ForwardMsgQueue, retain_lifecycle_msgs: bool = False, fragment_ids_this_run: list[str] | None = None
) -> None:
    if fragment_ids_this_run is None:
        _clear(queue, retain_lifecycle_msgs)  # a run of the whole page replaces what waits
    else:
        queue._delta_index_map = {}  # an element of this run must not take the place of one of the run before


def _register_with_page(storage: MemoryFragmentStorage, key: str, fragment: Fragment, **others: Any) -> None:
    fragment.page = ThreadState.get().active_script_hash  # type: ignore[attr-defined]
    _register(storage, key, fragment, **others)


def _enqueue_and_note_page(session: AppSession, message: ForwardMsg) -> None:
    if message.WhichOneof("type") == "navigation":
        _page_of[session] = message.navigation.page_script_hash
    _enqueue(session, message)


def _request_rerun_unless_left(session: AppSession, client_state: ClientState | None) -> None:
    if client_state is None or not client_state.fragment_id:
        if client_state is not None and client_state.page_script_hash:
            _page_of[session] = client_state.page_script_hash
    elif _left(session, client_state):
        return
    _request_rerun(session, client_state)


def _left(session: AppSession, asked: ClientState) -> bool:
    """Whether a fragment is asked for by, or belongs to, a page that the session has left."""
    page = _page_of.get(session)
    if page is None or not session.has_fragment(asked.fragment_id):
        return False
    owner = getattr(session._fragment_storage.lookup(asked.fragment_id), "page", page)
    return asked.page_script_hash != page or owner not in (page, session._pages_manager.main_script_hash)
