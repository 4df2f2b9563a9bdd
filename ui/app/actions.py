"""Buttons that start or change something: an action is carried out once for each time its button was drawn.

A double click asks Streamlit for two runs of the page, and each of them sees the button pressed. Two things prevent that the
action is carried out twice. The button's key counts the actions, so that the second click belongs to a button that is no
longer there; and a click on the new button within the time of a double click is ignored.

Streamlit ends a run of the page at the next command as soon as it is asked for another one. An action therefore runs in a
thread of its own, which Streamlit does not end, and the page waits for it.
"""

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx

from ui.app import shell

__all__ = ["action_button"]

Outcome = TypeVar("Outcome")

_RECORDS = "actions"
_DOUBLE_CLICK = 0.6
"""Seconds; the usual limit for a double click is 0.5."""


@dataclass
class _Record:
    """What a session did with one button."""

    count: int = 0
    ended: float = float("-inf")
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
    pressed = (place or st).button(label, key=f"{key} {record.count}", **style)
    if pressed and time.monotonic() - record.ended > _DOUBLE_CLICK:
        with shell.shown_errors():
            record.outcome = _uninterrupted(action)
            record.count, record.ended = record.count + 1, time.monotonic()
            st.rerun()
    return record.outcome


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
