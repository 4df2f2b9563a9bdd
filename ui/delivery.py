"""What Streamlit has drawn reaches the browser, in the order in which it was drawn.

Where a live view polls, Streamlit 1.67 throws away what its fragment drew before and was not sent yet, for the poll draws it
again. Two things are left behind. Elements that the browser has cached are kept without the containers they are in: the
page cannot place them, and goes white. And the end of the page's own run is kept without the fragment's part of it: the
browser takes what the fragment shows for stale, and a picture there is mounted anew. Both happen on a server that is busy
enough not to get round to sending between two runs.
"""

from streamlit.runtime.forward_msg_queue import ForwardMsgQueue

__all__ = ["keep_in_order"]

_clear = ForwardMsgQueue.clear


def keep_in_order() -> None:
    """Let what waits to be sent to a browser wait while a fragment runs; a run of the whole page replaces it, as before."""
    ForwardMsgQueue.clear = _clear_unless_fragment  # type: ignore[method-assign]


def _clear_unless_fragment(
    queue: ForwardMsgQueue, retain_lifecycle_msgs: bool = False, fragment_ids_this_run: list[str] | None = None
) -> None:
    if fragment_ids_this_run is None:
        _clear(queue, retain_lifecycle_msgs)
    else:
        queue._delta_index_map = {}  # an element of this run must not take the place of one of the run before
