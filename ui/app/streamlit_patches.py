"""Patches of Streamlit 1.67, and why each is needed: two faults break a page with a live fragment on a busy server.

1. Unsent messages (`ForwardMsgQueue.clear`). When a fragment starts to run, Streamlit drops the messages of its last run
   that were not sent yet, because the fragment draws everything again. It keeps two things that are wrong without the
   dropped ones. Elements that the browser has cached are kept without the containers around them: the browser cannot place
   them, and the page turns white. The end of a run of the whole page is kept without what the fragment drew in it: the
   browser takes the fragment's elements for stale, and a canvas there is mounted anew. The patch drops nothing when a
   fragment starts.

2. Reruns for a page that was left (`AppSession.request_rerun`). Until a new page arrives, the browser goes on asking for
   reruns of the old page's fragments. Streamlit merges such a request with the one for the new page, and the user is taken
   back; or it runs the fragment after the new page was drawn, which draws into the new page (it turns white) and removes
   the new page's values from the URL. The patch ignores reruns of fragments whose page was left.
"""

from typing import Any
from weakref import WeakKeyDictionary

from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.fragment import Fragment, MemoryFragmentStorage
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

__all__ = ["apply"]

_clear = ForwardMsgQueue.clear
_register = MemoryFragmentStorage.register
_enqueue = AppSession._enqueue_forward_msg
_request_rerun = AppSession.request_rerun

_page_of: WeakKeyDictionary[AppSession, str] = WeakKeyDictionary()
"""Hash of the page that each session asked for last, or that code switched to."""


def apply() -> None:
    """Apply the patches; applying them again changes nothing."""
    ForwardMsgQueue.clear = _clear_unless_fragment  # type: ignore[method-assign]
    MemoryFragmentStorage.register = _register_with_page  # type: ignore[method-assign]
    AppSession._enqueue_forward_msg = _enqueue_and_note_page  # type: ignore[method-assign]
    AppSession.request_rerun = _request_rerun_of_current_page  # type: ignore[method-assign]


def _clear_unless_fragment(
    queue: ForwardMsgQueue, retain_lifecycle_msgs: bool = False, fragment_ids_this_run: list[str] | None = None
) -> None:
    if fragment_ids_this_run is None:
        _clear(queue, retain_lifecycle_msgs)  # a run of the whole page replaces all unsent messages
    else:
        queue._delta_index_map = {}  # an element of this run must not replace an unsent one of the last run


def _register_with_page(storage: MemoryFragmentStorage, key: str, fragment: Fragment, **others: Any) -> None:
    fragment.page = ThreadState.get().active_script_hash  # type: ignore[attr-defined]
    _register(storage, key, fragment, **others)


def _enqueue_and_note_page(session: AppSession, message: ForwardMsg) -> None:
    if message.WhichOneof("type") == "navigation":
        _page_of[session] = message.navigation.page_script_hash
    _enqueue(session, message)


def _request_rerun_of_current_page(session: AppSession, client_state: ClientState | None) -> None:
    if client_state is None or not client_state.fragment_id:
        if client_state is not None and client_state.page_script_hash:
            _page_of[session] = client_state.page_script_hash
    elif _left(session, client_state):
        return
    _request_rerun(session, client_state)


def _left(session: AppSession, asked: ClientState) -> bool:
    """Whether a request for a fragment comes from a page, or is for a fragment of a page, that the session has left."""
    page = _page_of.get(session)
    if page is None or not session.has_fragment(asked.fragment_id):
        return False
    owner = getattr(session._fragment_storage.lookup(asked.fragment_id), "page", page)
    return asked.page_script_hash != page or owner not in (page, session._pages_manager.main_script_hash)
