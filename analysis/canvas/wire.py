"""Packs messages to the canvas into bytes.

A snapshot has two parts. Its frame (curves, marks, flow, words; some kilobytes) is sent once and kept by the browser. Its
values (a byte for every neuron and concept) are large: a message carries as many as fit, the browser keeps them within a
budget, and requests those near the playhead that it lacks.

Wire format, little endian, every section padded to 4 bytes: uint32 length of the header | header (JSON) | if
``start == 0``: order_LN uint16, pruned uint32 | for every snapshot from ``start`` on, for every concept: recruits uint32,
what each also carries uint8, survivors uint32, what each also carries uint8 | for every snapshot in ``values``:
values_CLN uint8.

Axis legend: C concept, L layer, N neuron, F followed neuron.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from analysis.canvas.contents import CanvasCurve, CanvasFrame, CanvasScene, Ribbons, require_flat_indices

__all__ = ["pack"]


def pack(
    scene: CanvasScene,
    frames: Sequence[CanvasFrame],
    *,
    control: Sequence[CanvasCurve],
    live: bool,
    status: str,
    half_steps: Mapping[str, float | None],
    number: int = 1,
    start: int = 0,
    control_start: int = 0,
    values: Mapping[int, np.ndarray] | None = None,
    net: Mapping[int, Sequence[Ribbons]] | None = None,
    card: Mapping[str, Any] | None = None,
) -> bytes:
    """Pack one message to the browser; ``frames`` are the snapshots from number ``start`` on.

    Equal arguments give equal bytes, of which Streamlit sends a reference only.

    Args:
        scene: What is drawn.
        frames: The frames.
        control: Snapshots of the control run from number ``control_start`` on.
        live: More snapshots are expected.
        status: A few words shown beside the live mark.
        half_steps: "retrained" and "held_out" -> step of half recovery.
        number: Number of the message among those with content; a message without content repeats the last number.
        start: Number of the first of `frames`.
        control_start: Number of the first of `control`.
        values: Snapshot -> uint8 [C, L, N]; none or some of those that exist.
        net: Snapshot -> for each concept the flow minus that of the control, once the control has reached it.
        card: What the card shows of the chosen neuron.

    Raises:
        ValueError: a frame or values do not have the scene's shape.
    """
    values = values or {}
    for frame in frames:
        _require_shape(scene, frame)
    for index, values_CLN in values.items():
        _require_values(scene, index, values_CLN)
    header = {
        "epoch": scene.epoch,
        "number": number,
        "start": start,
        "control_start": control_start,
        "live": live,
        "status": status,
        "half_steps": {name: _number(step) for name, step in half_steps.items()},
        "scene": _scene_json(scene),
        "frames": [_frame_json(frame) for frame in frames],
        "control": [_curve_json(curve) for curve in control],
        "values": sorted(values),
        "net": {str(index): _ribbons_json(flow) for index, flow in (net or {}).items()},
        "card": card,
    }
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    sections = [struct.pack("<I", len(text)), _padded(text)]
    if start == 0:
        sections += [_section(scene.order_LN, "<u2"), _section(scene.pruned, "<u4")]
    for frame in frames:
        for marks in (each for pair in zip(frame.recruits, frame.survivors) for each in pair):
            sections += [_section(marks.cells, "<u4"), _section(marks.also, "u1")]
    sections += [_section(values[index], "u1") for index in sorted(values)]
    return b"".join(sections)


def _scene_json(scene: CanvasScene) -> dict[str, Any]:
    return {
        "n_layers": scene.n_layers,
        "n_neurons": scene.n_neurons,
        "concepts": [{"name": c.name, "title": c.title, "place": c.place} for c in scene.concepts],
        "tracked": list(scene.tracked),
        "signed": scene.signed,
        "unit": scene.unit,
        "since": scene.since,
        "task": asdict(scene.task),
        "full_scale": scene.full_scale,
        "edit_label": scene.edit_label,
        "total_steps": scene.total_steps,
        "n_pruned": len(scene.pruned),
        "followed": scene.followed.tolist(),
    }


def _curve_json(curve: CanvasCurve) -> dict[str, Any]:
    return {
        "phase": curve.phase,
        "step": curve.step,
        "layer_change": [[_number(x) for x in row] for row in curve.layer_change_CL],
        "centre": [_number(x) for x in curve.centre_C],
        "distance": [_number(x) for x in curve.distance_C],
        "retrained": _number(curve.retrained),
        "held_out": _number(curve.held_out),
        "neutral_loss": _number(curve.neutral_loss),
    }


def _frame_json(frame: CanvasFrame) -> dict[str, Any]:
    return _curve_json(frame) | {
        "index": frame.index,
        "n_recruits": [len(marks.cells) for marks in frame.recruits],
        "n_survivors": [len(marks.cells) for marks in frame.survivors],
        "flow": _ribbons_json(frame.flow_C),
        "followed": [[_number(x) for x in row] for row in frame.followed_CF],
        "words": [None if words is None else list(words) for words in frame.words_F],
        "similarity": [_number(x) for x in frame.similarity_F],
    }


def _ribbons_json(flow_C: Sequence[Ribbons]) -> list[list[list[float | int | None]]]:
    return [[[start, end, _number(share)] for start, end, share in ribbons] for ribbons in flow_C]


def _number(value: float | None) -> float | None:
    """A number with six significant digits, more than a screen shows; None if it is not finite."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _section(array: np.ndarray, dtype: str) -> bytes:
    return _padded(np.ascontiguousarray(array, dtype=dtype).tobytes())


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)


def _require_shape(scene: CanvasScene, frame: CanvasFrame) -> None:
    n_concepts = len(scene.concepts)
    for name, per_concept in (("recruits", frame.recruits), ("survivors", frame.survivors)):
        if len(per_concept) != n_concepts:
            raise ValueError(f"snapshot {frame.index} has {name} for {len(per_concept)} concepts, not {n_concepts}")
        for marks in per_concept:
            require_flat_indices(name, marks.cells, scene.n_layers * scene.n_neurons)
    for name, per_neuron in (("words", frame.words_F), ("similarities", frame.similarity_F)):
        if len(per_neuron) != len(scene.followed):
            raise ValueError(f"snapshot {frame.index} has {name} of {len(per_neuron)} of {len(scene.followed)} neurons")


def _require_values(scene: CanvasScene, index: int, values_CLN: np.ndarray) -> None:
    expected = (len(scene.concepts), scene.n_layers, scene.n_neurons)
    if values_CLN.dtype != np.uint8:
        raise ValueError(f"values_CLN must be uint8, not {values_CLN.dtype}")
    if values_CLN.shape != expected:
        raise ValueError(f"snapshot {index} has values of shape {values_CLN.shape}, expected {expected}")
