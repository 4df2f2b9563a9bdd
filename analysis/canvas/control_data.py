"""The control run behind the migration canvas: its curves, and the flow net of it.

The control is trained in the same way without an edit, usually after the run itself, and with fewer snapshots: between
two of them its layer mass is taken as linear in the steps. It begins from what its training begins from: the unedited
model, or in a branch the checkpoint.

Axes: `T` snapshot, `C` concept, `L` layer.
"""

import numpy as np

from analysis import migration
from analysis.canvas import run_cache, run_data
from analysis.canvas.contents import CanvasCurve, Ribbons
from analysis.canvas.run_cache import View
from analysis.runs import RunDirectory

__all__ = ["curves", "net_flows"]


def curves(run: RunDirectory, view: View) -> list[CanvasCurve]:
    """The control run's curves as far as it has got, from what its training begins from."""
    control = run.control
    if control is None:
        return []
    path, count = control.path, control.n_snapshots()
    reference = run_data.reference_index(control, view, count)

    def curve(index: int) -> CanvasCurve:
        return run_cache.kept(
            path,
            ("curve", view.concepts, view.scale, reference, index),
            lambda: CanvasCurve(**run_data.curve_numbers(path, index, view, reference)),
            lambda _: 4096,
        )

    return [curve(index) for index in range(_first(control, count), count)]


def net_flows(
    run: RunDirectory, view: View, reference: int, start: int, stop: int, control_start: int
) -> dict[int, list[Ribbons]]:
    """Per concept the flow net of the control, of every snapshot that the control has reached.

    Args:
        run: The edited run.
        view: What is shown.
        reference: Snapshot that flow is counted from.
        start: Snapshots from here on are all told, up to `stop`.
        stop: Number of snapshots.
        control_start: Of those before `start` only the ones that the control reached with its curves from here on.
    """
    control = run.control
    reached = control.n_snapshots() if control is not None else 0
    if control is None or reached <= (first := _first(control, reached)):
        return {}
    if control.config.origin is not None and first == 0:
        return {}  # of an older version, which did not measure what the control of a branch begins from
    known = _step(control, first + control_start - 1) if control_start else -1
    steps_T = np.array([_step(control, index) for index in range(first, reached)], dtype=np.float64)
    mass_TCL = np.stack([run_cache.mass(control.path, index, view) for index in range(first, reached)])
    from_CL = run_cache.mass(control.path, run_data.reference_index(control, view, reached), view)
    found: dict[int, list[Ribbons]] = {}
    for index in range(reference + 1, stop):
        step = _step(run, index)
        if index < start and step <= known:
            continue
        if step > steps_T[-1]:
            break
        then_CL, now_CL = (run_cache.mass(run.path, at, view) for at in (reference, index))
        found[index] = []
        for c in range(len(view.concepts)):
            control_L = migration.interpolated(steps_T, mass_TCL[:, c], step)
            if control_L is not None:
                masses = (then_CL[c], now_CL[c], from_CL[c], control_L)
                found[index].append(run_data.ribbons(migration.net_transport, *masses))
    return found


def _first(control: RunDirectory, n_snapshots: int) -> int:
    """The first snapshot that is shown of a control: in a branch that of its checkpoint, even before it is there."""
    if control.config.origin is not None and n_snapshots < 2:
        return 1
    return run_data.beginning_index(control, n_snapshots)


def _step(run: RunDirectory, index: int) -> int:
    return run_cache.kept(run.path, ("step", index), lambda: run_cache.snapshot(run.path, index).step, lambda _: 64)
