"""Opens the neuron card, a drawer with everything known about one neuron, from any place that names a neuron.

`card_pills` draws names to click, `open_card` is for callbacks of charts and tables, and `?card=L5.N123` in the URL opens a
card too. Pinned neurons are kept in the session and in the URL (`?pins=`), and listed in the sidebar.
"""

from collections.abc import Sequence

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from analysis.components.units import Unit
from analysis.errors import PalimpsestError
from ui.app import viewer_model
from ui.app.tokens import escaped
from ui.saliency import card_view

__all__ = ["card_pills", "open_card", "pinned", "show", "sidebar"]

_CARD, _PINS = "card", "pins"
_MOST_PINS = 30


def card_pills(names: Sequence[str], key: str, *, label: str = "Neuron cards", at_once: bool = True) -> None:
    """Draw names; a click on one opens its card. It may be called several times on a page.

    Args:
        names: Names of units.
        key: Part of the widget's key.
        label: Label above the names.
        at_once: Draw an open card at once; if False, the page calls `show` after everything else.
    """
    if names:
        st.pills(label, list(names), key=f"offer {key}", on_change=_clicked, args=(f"offer {key}",), wrap=True)
    if at_once:
        show()


def open_card(name: str) -> None:
    """Callback: open the card with this name when the page is drawn next (by `card_pills` or `show`)."""
    st.query_params[_CARD] = name


def pinned() -> list[str]:
    """Names of the pinned neurons, in the order in which they were pinned."""
    if _PINS not in st.session_state:
        named = st.query_params.get(_PINS, "").split(",")
        names = dict.fromkeys(name.strip() for name in named if Unit.is_name(name.strip()))
        st.session_state[_PINS] = list(names)[:_MOST_PINS]  # pills draw Markdown, so only names may get into them
    return st.session_state[_PINS]


def show() -> None:
    """Draw the open card, if any; a second call in the same run of the page does nothing."""
    context = get_script_run_ctx()
    name = st.query_params.get(_CARD, "")
    if not name or context is None or context.has_dialog_opened:
        return
    try:
        unit = Unit.parse(name, viewer_model.model())
    except PalimpsestError as error:
        st.query_params.pop(_CARD, None)
        # in the sidebar, which is visible wherever the page is scrolled to
        st.sidebar.error(escaped(str(error)), icon=":material/error:")
        return
    st.dialog(str(unit), width=760, position="right", on_dismiss=_closed)(_card)(unit)


def sidebar() -> None:
    """Draw a box for a neuron's name, and the pinned neurons; a click on one opens its card."""
    pins = pinned()
    if pins:
        st.query_params[_PINS] = ",".join(pins)
    else:
        st.query_params.pop(_PINS, None)
    with st.sidebar:
        st.text_input(
            "Neuron card", key="card named", placeholder="L5.N123", on_change=_typed,
            help="`L5.N123` or `blocks.5.mlp.hook_post[123]`; `D` for a residual dimension, `H` for a head.",
        )  # fmt: skip
        if pins:
            st.pills("Pinned", pins, key="pinned", on_change=_clicked, args=("pinned",), wrap=True)


def _card(unit: Unit) -> None:
    """Draw the drawer's content, a fragment."""
    name = str(unit)
    hook, pin = st.columns([4, 1], vertical_alignment="center")
    hook.code(unit.hook, language=None)
    is_pinned = name in pinned()
    pin.button(
        "Unpin" if is_pinned else "Pin",
        key="pin",
        icon=":material/keep_off:" if is_pinned else ":material/keep:",
        on_click=_toggle,
        args=(name,),
        width="stretch",
    )
    try:
        card_view.draw(unit)
    except PalimpsestError as error:
        st.error(escaped(str(error)), icon=":material/error:")


def _toggle(name: str) -> None:
    pins = pinned()
    st.session_state[_PINS] = [p for p in pins if p != name] if name in pins else [*pins, name][-_MOST_PINS:]
    st.query_params[_PINS] = ",".join(st.session_state[_PINS])


def _clicked(key: str) -> None:
    if name := st.session_state[key]:
        open_card(name)
        st.session_state[key] = None  # the same name can be clicked again


def _typed() -> None:
    if name := st.session_state["card named"].strip():
        open_card(name)
        st.session_state["card named"] = ""


def _closed() -> None:
    st.query_params.pop(_CARD, None)
