"""Opens another page from code, and reports values in the URL that a widget does not have."""

from collections.abc import Collection
from typing import NoReturn

import streamlit as st

from ui.app.tokens import escaped

__all__ = ["check", "go_to"]

_ON_EVERY_PAGE = ("model", "device", "dtype", "pins")
"""URL parameters without a widget, with the same meaning on every page."""


def go_to(page: str, **parameters: str) -> NoReturn:
    """Open another page, such as `surgery.py`, and keep the session's model and pins in the URL.

    `st.switch_page` alone raises an error if the URL holds a widget's value.

    Args:
        page: File of the page.
        parameters: Further URL parameters: values of that page's widgets.
    """
    kept = {key: st.query_params[key] for key in _ON_EVERY_PAGE if key in st.query_params}
    st.switch_page(page, query_params=kept | parameters)


def check(key: str, options: Collection[str]) -> bool:
    """Whether the URL gives a widget only values that it has; if not, a message says so. Call it before drawing the widget.

    Streamlit drops such a value silently and shows the default, which is not what the link was made for.

    Args:
        key: The widget's key, and the URL's parameter.
        options: The values that the widget has.
    """
    unknown = [value for value in st.query_params.get_all(key) if value and value not in options]
    if unknown:
        shown = ", ".join(f"“{escaped(value[:40])}”" for value in unknown)
        # a toast, because an element that exists in one run only would move all elements below it
        st.toast(
            f"The URL asks for {key} = {shown}, which does not exist here. The default is shown.",
            icon=":material/link_off:",
            duration="long",
        )
    return not unknown
