"""The frame around every page: navigation, page header, sidebar, widget values that outlive a page, and error messages."""

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
    "choose_concept",
    "chosen_concept",
    "end_page",
    "navigation",
    "page_header",
    "restore_choices",
    "select_existing",
    "set_widgets",
    "set_widgets_later",
    "shown_errors",
    "sidebar",
    "sidebar_status",
]

_CONCEPT = "concept"
_REMEMBERED = (
    "run mode view_scale order step_panel "
    "task fine_tune_epochs steps rate batch seed control neutral sentences text_share text train_only lora optimiser precision schedule warmup "
    "accumulate cadence every track track_methods pinned follow_top checkpoint_every keep_checkpoints"
).split()
"""Keys of widgets on the Relearn page whose values outlive a visit to another page."""
_SET_BY_CODE = "widgets_set_by_code"
_NOT_HERE, _LAST = "not here", "last"
"""Endings of keys of `select_existing`: a name in the URL that does not exist, and the last choice."""
_CHECK_SECONDS = 5.0


def navigation() -> list:
    """The pages in the order of the main job; without icons, because Streamlit fetches a page's icon from the internet."""
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


def restore_choices() -> None:
    """Restore the values of widgets; pages/main.py calls it before the page is drawn.

    Streamlit forgets the value of a widget once a page without that widget is drawn. Values from `set_widgets` are set here.
    """
    for key in _REMEMBERED:
        if key in st.session_state:
            st.session_state[key] = st.session_state[key]
    st.session_state.update(st.session_state.pop(_SET_BY_CODE, {}))


def set_widgets(**values: object) -> NoReturn:
    """Set widgets by key, and draw the page again.

    Writing to the session's state is not enough: the browser may have sent a rerun of a live view in the meantime. That
    request carries the old values of the widgets, is merged with the new run, and its values would win.
    """
    set_widgets_later(**values)
    st.rerun()


def set_widgets_later(**values: object) -> None:
    """Set widgets by key when the whole page is drawn next (`set_widgets`)."""
    st.session_state[_SET_BY_CODE] = values


class PageEnd(Exception):
    """Raised by `end_page`; pages/main.py catches it."""


def end_page() -> NoReturn:
    """End the page here, but still draw the sidebar, which `st.stop` would leave out.

    A fragment is ended by `st.stop`: it may run without pages/main.py around it.
    """
    if ThreadState.get().fragment_id is not None:
        st.stop()
    raise PageEnd


def select_existing(label: str, names: Sequence[str], key: str, default: int = 0) -> str:
    """Draw a selectbox for things that are created and deleted (runs, removals); returns the chosen name.

    The URL always names the choice, even the default, which Streamlit would leave out: the first of these names changes when
    something new is created, and a link has to open what it was made for. If the URL names something that does not exist, a
    message says so and the default is shown. Clearing the box brings the last choice back.

    Args:
        label: Label of the selectbox.
        names: What can be chosen.
        key: The widget's key, and the URL's parameter.
        default: Index of the name that is chosen at first.
    """
    notice = f"{key} {_NOT_HERE}"
    if st.session_state.get(key) != st.session_state.get(f"{key} {_LAST}"):
        st.session_state.pop(notice, None)
    elif notice in st.session_state:
        st.info(
            f"“{escaped(st.session_state[notice])}” does not exist (any more). This is {escaped(st.session_state[key])}."
        )
    in_url, was_drawn = st.query_params.get(key), key in st.session_state
    if st.session_state.get(key, in_url) not in names:
        if not was_drawn:  # from then on the widget writes the URL
            st.query_params[key] = names[default]
        st.session_state[key] = names[default]
    elif in_url is None and was_drawn:  # set by code before the widget was drawn for the first time
        st.query_params[key] = st.session_state[key]
    chosen = st.selectbox(label, names, index=None, key=key, bind="query-params")
    if not was_drawn and in_url is not None and in_url not in names:  # Streamlit has removed it from the URL
        st.session_state[notice], st.session_state[f"{key} {_LAST}"] = in_url, names[default]
        set_widgets(**{key: names[default]})
    if chosen is None:  # cleared, or the browser went back to a URL without it
        set_widgets(**{key: st.session_state.get(f"{key} {_LAST}", names[default])})
    st.session_state[f"{key} {_LAST}"] = chosen
    return str(chosen)


def page_header(title: str, purpose: str) -> None:
    """Draw the title of a page and one sentence about it, the place for loading progress, and the memory notice."""
    st.title(title)
    st.caption(purpose)
    viewer_model.reserve_place()
    queue_view.memory_notice()
    queue.tend()


def sidebar() -> DeltaGenerator:
    """Draw the choice of a concept; returns the place for `sidebar_status`."""
    with st.sidebar:
        st.selectbox(
            "Concept",
            concepts.available(),
            key=_CONCEPT,
            bind="query-params",
            help="The concept that is ranked, removed and relearned. Upload your own on the Model page.",
        )
        return st.container()


def sidebar_status(place: DeltaGenerator) -> None:
    """Draw what the page may have changed: the model and the active runs; called after the page."""
    with place:
        st.caption(f"Model: **{escaped(viewer_model.chosen().reference)}** · {viewer_model.describe_state()}")
        _active_runs()


def _active_runs() -> None:
    """Draw what the active runs are doing, and keep it up to date."""
    if not updates.overview().text:
        return

    @st.fragment(run_every=None if updates.is_served() else _CHECK_SECONDS)
    def panel() -> None:
        shown = updates.overview()
        if updates.is_served():
            live_line(shown, updates.OVERVIEW_ADDRESS, every=_CHECK_SECONDS, small=True, key="active_runs")
        else:
            st.caption(escaped(shown.text).replace("\n", "  \n"))

    panel()


def chosen_concept() -> concepts.Concept:
    """The concept chosen in the sidebar."""
    return concepts.load(st.session_state.get(_CONCEPT) or concepts.BUILT_IN[0])


def choose_concept(name: str) -> None:
    """Callback: choose a concept after its upload."""
    st.session_state[_CONCEPT] = name


@contextmanager
def shown_errors(*, stop: bool = True) -> Iterator[None]:
    """Show an error of this project as a message where it happens; other exceptions surface as bugs.

    Args:
        stop: End the page after the message; otherwise go on after the block.
    """
    try:
        yield
    except PalimpsestError as error:
        st.error(escaped(str(error)), icon=":material/error:")
        if stop:
            end_page()
