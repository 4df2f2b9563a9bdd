"""From one page to another in code, and values in the address that mean nothing."""

from collections.abc import Collection
from typing import NoReturn

import streamlit as st

from ui.app.tokens import escaped

__all__ = ["check", "go_to"]

_KEPT = ("model", "pins")
"""URL parameters that belong to no widget and mean the same on every page."""


def go_to(page: str, **parameters: str) -> NoReturn:
    """Open another page, such as `surgery.py`, with the session's model and pins still in the URL.

    Not `st.switch_page` alone: without `query_params` it raises as soon as the URL holds a widget's value.

    Args:
        page: Its file.
        parameters: What else the URL shall hold: values of widgets of that page which this page does not have.
    """
    kept = {key: st.query_params[key] for key in _KEPT if key in st.query_params}
    st.switch_page(page, query_params=kept | parameters)


def check(key: str, options: Collection[str]) -> None:
    """Say so if the URL gives a widget a value that it does not have; call it before the widget is drawn.

    Streamlit itself drops such a value without a word, and another view appears than the one the link was for.

    Args:
        key: The widget's key, which is the URL's parameter.
        options: What it can be set to.
    """
    unknown = [value for value in st.query_params.get_all(key) if value and value not in options]
    if unknown:
        shown = ", ".join(f"“{escaped(value[:40])}”" for value in unknown)
        # not in the page's flow: an element that is there in one run only moves all that follow
        st.toast(
            f"The address asks for {key} = {shown}, which does not exist here. The default is shown.",
            icon=":material/link_off:",
            duration="long",
        )
