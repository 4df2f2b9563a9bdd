"""Buttons that start or change something: an action is carried out once for each time its button was drawn.

A double click asks Streamlit for two runs of the page, and each of them sees the button pressed. Two things prevent that the
action is carried out twice. The button's key counts the actions, so that a second click which arrives during the action
belongs to a button that is no longer there. A second click on the new button, which the page may have drawn in between, is
not sent to the server: double_clicks.js ignores it in the browser, which alone knows which clicks belong together.

Streamlit ends a run of the page at the next command as soon as it is asked for another one. An action therefore runs in a
thread of its own, which Streamlit does not end, and the page waits for it.
"""

import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st
from streamlit.components.v2 import component
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx

from ui.app import shell

__all__ = ["action_button", "ignore_double_clicks"]

Outcome = TypeVar("Outcome")

_RECORDS = "actions"
_ignored = component(
    "palimpsest_double_clicks",
    js=(Path(__file__).parent / "double_clicks.js").read_text(encoding="utf-8"),
)


@dataclass
class _Record:
    """What a session did with one button."""

    count: int = 0
    outcome: Any = None


def action_button(
    label: str, action: Callable[[], Outcome], *, key: str, place: DeltaGenerator | None = None, **style: Any
) -> Outcome | None:
    """Draw a button, and carry out its action once when it is pressed; the page is then drawn again.

    An error of this project is shown where the button is; the button can then be pressed again.

    Args:
        label: The button's label.
        action: What to do. It may draw, but must not end or restart the page; `shell.set_widgets_later` sets widgets.
        key: Name of the action, the same whenever it is drawn.
        place: Where to draw the button.
        style: Further arguments of `st.button`.

    Returns:
        What the action returned when this session carried it out last; None before that.
    """
    records: dict[str, _Record] = st.session_state.setdefault(_RECORDS, {})
    record = records.setdefault(key, _Record())
    if (place or st).button(label, key=f"action {key} {record.count}", **style):
        with shell.shown_errors():
            record.outcome = _uninterrupted(action)
            record.count += 1
            st.rerun()
    return record.outcome


def ignore_double_clicks() -> None:
    """Make the page ignore the second click of a double click on an action's button; called once for every page."""
    _ignored(key="double_clicks", height="content")


def _uninterrupted(action: Callable[[], Outcome]) -> Outcome:
    """The result of an action, which runs in a thread of its own with the page's context."""
    results: list[Outcome] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:  # noqa: BLE001 (raised again below, in the page's own thread)
            errors.append(error)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="action", daemon=True)
    add_script_run_ctx(thread, get_script_run_ctx())
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
