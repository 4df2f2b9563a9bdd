"""The migration view: a canvas that shows, snapshot by snapshot, where a concept comes back.

This file knows what the browser already holds; it does not know how a value was measured, where snapshots are stored,
how they travel (`wire`), or how anything is drawn (`analysis/canvas/js`).

    shown = migration_canvas(scene, source, ..., key="migration")

Only news travel. The browser says through the component state ``have`` what it holds and what it lacks
("epoch#snapshots|control snapshots|first-end" of the values it wants next); the next rerun sends from there on. A
browser that holds nothing (first visit, reload, another page in between) or another epoch is sent everything light, and
values as far as a message has room.

Axis legend: C concept, L layer, N neuron.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from analysis.canvas.assets import MODULE, STYLES
from analysis.canvas.contents import CanvasConcept, CanvasCurve, CanvasFrame, CanvasScene, CanvasTask, Marks, Ribbons
from analysis.canvas.wire import pack

__all__ = [
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
"""Values in one message: more would keep the socket busy for so long that the picture waits."""
RESEND_SECONDS = 1.5
"""Values that were sent and not acknowledged are on their way for so long; sending them at every poll would delay them."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the canvas gets what the browser lacks; each is called only for that."""

    frames: Callable[[int], Sequence[CanvasFrame]]
    """The light parts of the snapshots from a number on."""
    values: Callable[[int], np.ndarray]
    """The values of one snapshot, uint8 [C, L, N]."""
    net: Callable[[int, int], Mapping[int, Sequence[Ribbons]]]
    """``net(start, control_start)``: flow net of the control, of the snapshots from ``start`` on and of those that the
    control reached only with its snapshots from ``control_start`` on."""


@dataclass(frozen=True)
class Chosen:
    """What the user of a canvas chose."""

    index: int | None = None
    """Snapshot on which the playhead rests; None: the newest."""
    neuron: tuple[int, int] | None = None
    """(layer, neuron) whose card is open."""


class OnTheirWay:
    """Which values were sent to one browser a moment ago, so that a slow one is not sent them again and again."""

    def __init__(self):
        self.said = ""
        self.epoch = ""
        self.sent: dict[int, float] = {}

    def hear(self, have: str, epoch: str) -> None:
        """What the browser says now: once it says something new, what it still lacks was lost and may be sent again."""
        if have != self.said or epoch != self.epoch:
            self.sent.clear()
        self.said, self.epoch = have, epoch

    def send(self, indices: Sequence[int], now: float) -> list[int]:
        """Those of `indices` that are not on their way, which they are from now on."""
        fresh = [index for index in indices if now - self.sent.get(index, -RESEND_SECONDS) >= RESEND_SECONDS]
        self.sent.update(dict.fromkeys(fresh, now))
        return fresh


def chosen(key: str, scene: CanvasScene) -> Chosen:
    """What was chosen in the canvas of this key, if it shows this scene."""
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
    """Mount the canvas; mount it inside a fragment, so that acknowledgements rerun only that.

    Args:
        scene: what is drawn.
        source: where the missing parts come from.
        n_frames: snapshots that exist now.
        control: all snapshots of the control run so far (empty if there is none).
        live: more snapshots are expected.
        status: a few words beside the live mark; text that changes at every poll is sent at every poll.
        half_steps: "retrained" and "held_out" -> step of half recovery, None if not reached.
        card: what is told of the chosen neuron (`chosen`).
        key: Streamlit key of this canvas.

    Returns:
        The component result; ``action`` is None, or {"do": ..., "neuron": "L5.N123"} after a button of the card.
    """
    state = st.session_state.get(key)
    start, control_start, wanted = _held(state, scene.epoch)
    if start > n_frames or control_start > len(control):
        start, control_start, wanted = 0, 0, range(0)
    on_their_way = st.session_state.setdefault(f"{key} sent", OnTheirWay())
    on_their_way.hear(str((state or {}).get("have") or ""), scene.epoch)
    sent = on_their_way.send(_sent(scene, start, n_frames, wanted, live), time.monotonic())
    data = pack(
        scene,
        source.frames(start) if start < n_frames else (),
        control=control[control_start:],
        live=live,
        status=status,
        half_steps=half_steps,
        start=start,
        control_start=control_start,
        values={index: source.values(index) for index in sent},
        net=source.net(start, control_start) if len(control) > control_start or start < n_frames else {},
        card=card,
    )
    return _component(
        key=key,
        data=data,
        on_have_change=_no_callback,
        on_step_change=_no_callback,
        on_neuron_change=_no_callback,
        on_action_change=_no_callback,
    )


def _sent(scene: CanvasScene, start: int, n_frames: int, wanted: range, live: bool) -> list[int]:
    """Whose values go into this message: what was asked for, and what is new; the newest first where it is live."""
    room = max(1, MESSAGE_BYTES // scene.frame_bytes)
    news = range(start, n_frames)
    asked = [index for index in wanted if index < n_frames and index not in news][:room]
    left = room - len(asked)
    if left <= 0:
        return asked
    return sorted({*asked, *(news[-left:] if live else news[:left])})


def _held(state: Mapping[str, Any] | None, epoch: str) -> tuple[int, int, range]:
    """Snapshots and control snapshots of this epoch that the browser says it holds, and whose values it wants."""
    have_epoch, _, counts = str((state or {}).get("have") or "").rpartition("#")
    frames, control, wanted = (*counts.split("|"), "", "", "")[:3]
    if have_epoch != epoch or not (frames.isdecimal() and control.isdecimal()):
        return 0, 0, range(0)
    first, _, end = wanted.partition("-")
    return int(frames), int(control), range(int(first), int(end)) if first.isdecimal() and end.isdecimal() else range(0)


def _no_callback() -> None:
    """Streamlit only keeps a state or trigger for which a callback is given."""


_component = component(
    "palimpsest_migration",
    js=MODULE,
    css=STYLES,
)
