"""Computes what the canvas draws of the control run: its curves, and the flow of the edited run minus that of the control.

The control is trained like the edited run but without an edit, usually after it and with fewer snapshots. Between two
snapshots its layer mass is interpolated linearly over the steps. Its curves start where its training starts: at the
unedited model, or at the checkpoint for a branch.

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
    """The control's curves so far, from the weights that its training starts from."""
    control = run.control
    if control is None:
        return []
    path, count = control.path, control.n_snapshots()
    reference = run_data.reference_index(control, view, count)

    def curve(index: int) -> CanvasCurve:
        return run_cache.cached(
            path,
            ("curve", view.concepts, view.scale, reference, index),
            lambda: CanvasCurve(**run_data.curve_numbers(path, index, view, reference)),
            lambda _: 4096,
        )

    return [curve(index) for index in range(_first(control, count), count)]


def net_flows(
    run: RunDirectory, view: View, reference: int, start: int, stop: int, control_start: int
) -> dict[int, list[Ribbons]]:
    """For each concept the flow minus that of the control, for every snapshot that the control has reached.

    Args:
        run: The edited run.
        view: What is shown.
        reference: Snapshot that flow is counted from.
        start: All snapshots from here up to `stop` are included.
        stop: Number of snapshots.
        control_start: Earlier snapshots are included only if the control reached them with its curves from here on.

    Returns:
        Snapshot -> ribbons for each concept.
    """
    control = run.control
    reached = control.n_snapshots() if control is not None else 0
    if control is None or reached <= (first := _first(control, reached)):
        return {}
    if control.config.origin is not None and first == 0:
        return {}  # older versions did not measure the start of a branch's control
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
    """Index of the first snapshot shown of a control; for a branch that of its checkpoint, even before it exists."""
    if control.config.origin is not None and n_snapshots < 2:
        return 1
    return run_data.beginning_index(control, n_snapshots)


def _step(run: RunDirectory, index: int) -> int:
    return run_cache.cached(run.path, ("step", index), lambda: run_cache.snapshot(run.path, index).step, lambda _: 64)
