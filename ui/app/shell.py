"""The frame around every page: navigation, the guard against cold deep links, the sidebar, and how errors look."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

from analysis import concepts
from analysis.errors import PalimpsestError
from analysis.jobs import queue
from ui.app import queue_view, updates, viewer_model
from ui.app.live_line import live_line
from ui.app.tokens import escaped

__all__ = [
    "PageEnd",
    "begin",
    "choose",
    "choose_concept",
    "chosen_concept",
    "end",
    "keep_choices",
    "navigation",
    "one_of",
    "shown_errors",
    "sidebar",
    "sidebar_state",
]

_CONCEPT = "concept"
_KEPT = (
    "run mode view_scale order moment_panel "
    "task fine_tune_epochs steps rate batch seed control neutral sentences text_share text train_only lora optimiser precision schedule warmup "
    "accumulate cadence every track track_methods pinned follow_top checkpoint_every keep_checkpoints"
).split()
"""Choices on the Relearn page that outlive a visit to another page."""
_CHOSEN = "chosen_by_code"
_NOT_HERE, _LAST = "not here", "last"
_LOOK_SECONDS = 5.0


def navigation() -> list:
    """The pages, in the order of the main job. No icons: Streamlit fetches a page's icon as favicon from the net."""
    return [
        st.Page("model.py", title="Model", default=True),
        st.Page("saliency.py", title="Saliency"),
        st.Page("lens.py", title="Logit lens"),
        st.Page("circuits.py", title="Circuits"),
        st.Page("surgery.py", title="Surgery"),
        st.Page("board.py", title="Board"),
        st.Page("relearn.py", title="Relearn"),
        st.Page("compare.py", title="Compare"),
    ]


def keep_choices() -> None:
    """Called by pages/main.py before the page: what the widgets of the page are to show that Streamlit would not know.

    It forgets what a widget was set to once a page without it is drawn; and see `choose`.
    """
    for key in _KEPT:
        if key in st.session_state:
            st.session_state[key] = st.session_state[key]
    st.session_state.update(st.session_state.pop(_CHOSEN, {}))


def choose(**values: object) -> NoReturn:
    """Set widgets from code, and redraw the page.

    Not by the session's state alone: a request that the browser sent in the meantime, for a poll of a live view, says what
    the widgets showed before, is joined with the redrawing, and would win.
    """
    st.session_state[_CHOSEN] = values
    st.rerun()


class PageEnd(Exception):
    """The page has nothing more to draw."""


def end() -> NoReturn:
    """End the page here, and only the page: after `st.stop` Streamlit draws nothing any more, the sidebar included.

    That is how a fragment ends, which may run without pages/main.py around it.
    """
    if ThreadState.get().fragment_id is not None:
        st.stop()
    raise PageEnd


def one_of(label: str, names: Sequence[str], key: str, at: int = 0) -> str:
    """Draw a choice among things that come and go: runs, removals.

    The address names what is shown, except after an address whose name is not among them. Streamlit leaves a widget's default
    out of it, but what comes first among these today is another one tomorrow, for whoever opens the link, and for the page
    itself once it is loaded anew. Cleared, it is what it was at first.

    Args:
        at: What is chosen at first, as an index of `names`.
    """
    notice = f"{key} {_NOT_HERE}"
    if st.session_state.get(key) != st.session_state.get(f"{key} {_LAST}"):
        st.session_state.pop(notice, None)
    elif notice in st.session_state:
        st.info(
            f"“{escaped(st.session_state[notice])}” is not here (any more). This is {escaped(st.session_state[key])}."
        )
    asked, begun = st.query_params.get(key), key in st.session_state
    if st.session_state.get(key, asked) not in names:
        if not begun:  # not drawn yet: from then on the address is the widget's
            st.query_params[key] = names[at]
        st.session_state[key] = names[at]
    chosen = st.selectbox(label, names, index=None, key=key, bind="query-params")
    if not begun and asked is not None and asked not in names:  # Streamlit has taken it out of the address
        st.session_state[notice], st.session_state[f"{key} {_LAST}"] = asked, names[at]
        choose(**{key: names[at]})
    if chosen is None:  # the browser went back to an address without it
        choose(**{key: st.session_state.get(f"{key} {_LAST}", names[at])})
    st.session_state[f"{key} {_LAST}"] = chosen
    return str(chosen)


def begin(title: str, purpose: str) -> None:
    """Open a page: title and one sentence."""
    st.title(title)
    st.caption(purpose)
    viewer_model.reserve_place()
    queue_view.room_notice()
    queue.tend()


def sidebar() -> DeltaGenerator:
    """The choice of concept on every page; returns the place for `sidebar_state`."""
    with st.sidebar:
        st.selectbox(
            "Concept",
            concepts.available(),
            key=_CONCEPT,
            bind="query-params",
            help="The concept that is ranked, removed and relearned. Upload your own on the Model page.",
        )
        return st.container()


def sidebar_state(place: DeltaGenerator) -> None:
    """Fill in what the page may have changed: the model, and the runs that are active."""
    with place:
        st.caption(f"Model: **{escaped(viewer_model.chosen().reference)}** · {viewer_model.describe_state()}")
        _active_runs()


def _active_runs() -> None:
    """What the runs that are under way are doing, kept up to date while there are any."""
    if not updates.of_everything().text:
        return

    @st.fragment(run_every=None if updates.told() else _LOOK_SECONDS)
    def panel() -> None:
        shown = updates.of_everything()
        if updates.told():
            live_line(shown, updates.EVERYTHING, every=_LOOK_SECONDS, small=True, key="active_runs")
        else:
            st.caption(escaped(shown.text).replace("\n", "  \n"))

    panel()


def chosen_concept() -> concepts.Concept:
    """The concept chosen in the sidebar."""
    return concepts.load(st.session_state.get(_CONCEPT) or concepts.BUILT_IN[0])


def choose_concept(name: str) -> None:
    """Callback: choose a concept from code (after an upload)."""
    st.session_state[_CONCEPT] = name


@contextmanager
def shown_errors(*, stop: bool = True) -> Iterator[None]:
    """Show an error meant for users where it happens; bugs surface as they are.

    Args:
        stop: End the page there; otherwise go on with what follows the block.
    """
    try:
        yield
    except PalimpsestError as error:
        st.error(escaped(str(error)), icon=":material/error:")
        if stop:
            end()
