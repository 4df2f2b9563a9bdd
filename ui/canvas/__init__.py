"""Mounts the migration canvas as a Streamlit component and sends it what the browser does not have yet.

    shown = migration_canvas(scene, source, ..., key="migration")

`browser_copy` records what the browser has. A browser that has nothing (first visit, reload, return from another page,
another view) gets all frames and as many values as fit into a message; afterwards it gets what is new. Measuring, storing
(`runs`), packing (`wire`) and drawing (the scripts of `analysis.canvas`) are done elsewhere.

Axis legend: C concept, L layer, N neuron.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from analysis.canvas.assets import MODULE, STYLES
from analysis.canvas.contents import (
    MAX_CONCEPTS,
    CanvasConcept,
    CanvasCurve,
    CanvasFrame,
    CanvasScene,
    CanvasTask,
    Marks,
    Ribbons,
)
from analysis.canvas.wire import pack
from ui.canvas.browser_copy import BrowserCopy

__all__ = [
    "MAX_CONCEPTS",
    "CanvasConcept",
    "CanvasCurve",
    "CanvasFrame",
    "CanvasScene",
    "CanvasTask",
    "Chosen",
    "Marks",
    "Ribbons",
    "Source",
    "chosen",
    "migration_canvas",
    "pack",
]

MESSAGE_BYTES = 2 * 2**20
"""Most bytes of values in one message; a larger one would occupy the connection for so long that the canvas has to wait."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Functions that compute what the browser lacks; each is called only for missing parts."""

    frames: Callable[[int], Sequence[CanvasFrame]]
    """The frames of the snapshots from this index on."""
    values: Callable[[int], np.ndarray]
    """The values of one snapshot, uint8 [C, L, N]."""
    net: Callable[[int, int], Mapping[int, Sequence[Ribbons]]]
    """``net(start, control_start)``: flow minus the control's, for the snapshots from ``start`` on, and for earlier ones that
    the control reached only with its snapshots from ``control_start`` on."""


@dataclass(frozen=True)
class Chosen:
    """The user's choice in a canvas."""

    index: int | None = None
    """Index of the snapshot at the playhead; None is the newest."""
    neuron: tuple[int, int] | None = None
    """(layer, neuron) whose card is open."""


def chosen(key: str, scene: CanvasScene) -> Chosen:
    """The user's choice in the canvas with this key; empty if the canvas shows another scene."""
    state = st.session_state.get(key) or {}
    epoch, _, index = str(state.get("step") or "").rpartition("#")
    layer, _, neuron = str(state.get("neuron") or "").partition(".")
    inside = layer.isdecimal() and neuron.isdecimal()
    inside = inside and int(layer) < scene.n_layers and int(neuron) < scene.n_neurons
    return Chosen(
        index=int(index) if epoch == scene.epoch and index.isdecimal() else None,
        neuron=(int(layer), int(neuron)) if inside else None,
    )


def migration_canvas(
    scene: CanvasScene,
    source: Source,
    *,
    n_frames: int,
    control: Sequence[CanvasCurve],
    live: bool,
    status: str,
    half_steps: Mapping[str, float | None],
    card: Mapping[str, Any] | None = None,
    key: str,
) -> Any:
    """Mount the canvas; call it inside a fragment, so that the browser's requests rerun only the fragment.

    Args:
        scene: The scene to draw.
        source: Computes missing parts.
        n_frames: Number of snapshots now.
        control: All snapshots of the control run so far; empty if there is none.
        live: Whether more snapshots are expected.
        status: A few words beside the live mark; it is sent with every rerun.
        half_steps: "retrained" and "held_out" -> step of half recovery, None if not reached.
        card: Contents of the card of the chosen neuron (`chosen`).
        key: Streamlit key of this canvas.

    Returns:
        The component result; ``action`` is None, or {"do": ..., "neuron": "L5.N123"} after a button of the card.
    """
    state = st.session_state.get(key)
    browser: BrowserCopy = st.session_state.setdefault(f"{key} browser copy", BrowserCopy())
    if state is None:  # Streamlit forgets a component that is not on the page, so this one was just mounted
        browser.restart(scene.epoch)
    wanted = browser.read_request(str((state or {}).get("missing") or ""), scene.epoch)
    if browser.n_frames > n_frames or browser.n_control > len(control):
        browser.restart(scene.epoch)
    start, control_start = browser.n_frames, browser.n_control
    sent = _values_to_send(scene, range(start, n_frames), wanted, live)
    data = pack(
        scene,
        source.frames(start) if start < n_frames else (),
        control=control[control_start:],
        live=live,
        status=status,
        half_steps=half_steps,
        number=browser.next_number(n_frames, len(control), sent),
        start=start,
        control_start=control_start,
        values={index: source.values(index) for index in sent},
        net=source.net(start, control_start) if len(control) > control_start or start < n_frames else {},
        card=card,
    )
    result = _component(
        key=key,
        data=data,
        on_missing_change=_no_callback,
        on_step_change=_no_callback,
        on_neuron_change=_no_callback,
        on_action_change=_no_callback,
    )
    browser.sent(n_frames, len(control), sent)
    return result


def _values_to_send(scene: CanvasScene, new: range, wanted: Sequence[int], live: bool) -> list[int]:
    """The snapshots whose values go into this message: requested ones first, then new ones (the newest, in a live run)."""
    room = max(1, MESSAGE_BYTES // scene.frame_bytes)
    asked = [index for index in wanted if index < new.start][:room]
    left = room - len(asked)
    if left <= 0:
        return asked
    return sorted({*asked, *(new[-left:] if live else new[:left])})


def _no_callback() -> None:
    """Does nothing; Streamlit only keeps states and triggers that have a callback."""


_component = component(
    "palimpsest_migration",
    js=MODULE,
    css=STYLES,
)
