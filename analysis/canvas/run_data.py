"""Turns a run on disk into what the canvas draws: scene, frames, and the values of all neurons scaled to bytes.

Axes: `C` concept, `L` layer, `N` neuron in a layer, `K` chosen neuron, `F` followed neuron.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis import migration
from analysis.canvas.contents import CanvasConcept, CanvasFrame, CanvasScene, CanvasTask, Marks
from analysis.canvas.run_cache import View, cached, mass, scaled, snapshot, threshold
from analysis.components.neurons import NeuronSet
from analysis.errors import ConfigError
from analysis.jobs import layout
from analysis.relearning import RunFacts, Snapshot
from analysis.relearning import branch_weights as relearn_origin
from analysis.runs import RunDirectory

__all__ = [
    "MODES",
    "ORDERS",
    "beginning_index",
    "curve_numbers",
    "edit_label",
    "frames",
    "half_steps",
    "reference_index",
    "ribbons",
    "scene",
    "values",
]

MODES = {
    "since the edit": "change since right after the edit",
    "since the base": "change since before the edit",
    "level": "saliency itself (it hardly moves)",
}
ORDERS = ("before the edit", "by number")
_TASKS = {
    "facts": CanvasTask(),
    "tagging": CanvasTask(
        question="Does it find the words?",
        measure="P(tags)",
        trained="words in retrained sentences",
        held_out="words in held-out sentences",
    ),
}


def scene(run: RunDirectory, view: View, facts: RunFacts, n_snapshots: int) -> CanvasScene:
    """The part that stays the same; scales and order come from the base snapshot alone, so that a live run is never rescaled."""
    key = ("scene", view, n_snapshots > 1)
    return cached(run.path, key, lambda: _scene(run, view, facts, n_snapshots), lambda one: one.order_LN.nbytes + 65536)


def _scene(run: RunDirectory, view: View, facts: RunFacts, n_snapshots: int) -> CanvasScene:
    base_CLN = _base(run, view)
    n_layers, n_neurons = base_CLN.shape[1:]
    by_strength = np.argsort(-base_CLN[0], axis=1, kind="stable")
    plain = np.broadcast_to(np.arange(n_neurons), (n_layers, n_neurons))
    tracked = run.config.tracked
    titles = {name: concept.title for name, concept in run.concepts().items()}
    unit = {"raw": "activation units (probeless)", "standardised": "standard deviations (d')", "rank": "rank (0 to 1)"}
    # before the snapshot after the edit exists, changes are counted from the base: another picture needs another epoch
    moment = "" if n_snapshots > 1 or not run.config.begins_changed else "before"
    return CanvasScene(
        epoch="|".join([run.name, run.created, *view.concepts, view.mode, view.scale, view.order, moment]),
        n_layers=n_layers,
        n_neurons=n_neurons,
        concepts=tuple(
            CanvasConcept(name=name, title=titles[name], place=tracked.index(name)) for name in view.concepts
        ),
        signed=view.mode != "level",
        unit=("change of " if view.mode != "level" else "") + unit[view.scale],
        since="the base" if reference_index(run, view, n_snapshots) == 0 else "the edit",
        full_scale=_full_scale(base_CLN, view),
        order_LN=(by_strength if view.order == "before the edit" else plain).astype(np.uint16),
        pruned=facts.edited.flat.astype(np.uint32),
        edit_label=edit_label(run),
        total_steps=run.config.steps,
        task=_TASKS[run.config.task],
        tracked=tuple(titles[name] for name in tracked),
        followed=facts.followed.flat.astype(np.uint32),
    )


def edit_label(run: RunDirectory) -> str:
    """ "pruned" or "reversed"; a branch without an edit of its own takes the edited neurons of the run that it branched from."""
    edits = (run.config.edit, *(config.edit for config in reversed(relearn_origin.configs(run.path / layout.ORIGIN))))
    method = next((edit.method for edit in edits if edit is not None), "prune")
    return {"prune": "pruned", "mean_ablate": "pruned"}.get(method, "reversed")


def frames(run: RunDirectory, view: View, facts: RunFacts, start: int, stop: int) -> list[CanvasFrame]:
    """The frames of the snapshots from `start` to before `stop`."""
    reference = reference_index(run, view, stop)

    def frame(index: int) -> CanvasFrame:
        return cached(
            run.path,
            ("frame", view, reference, index),
            lambda: _frame(run, view, facts, index, stop),
            lambda made: 8192 + 5 * sum(len(marks.cells) for marks in (*made.recruits, *made.survivors)),
        )

    return [frame(index) for index in range(start, stop)]


def values(run: RunDirectory, view: View, index: int, n_snapshots: int) -> np.ndarray:
    """Values of all neurons at one snapshot, uint8 [C, L, N]: levels 0 to 255, or changes with 128 for none."""
    reference = reference_index(run, view, n_snapshots)

    def make() -> np.ndarray:
        full = cached(run.path, ("full", view), lambda: _full_scale(_base(run, view), view), lambda _: 64)
        shown = []
        for name in view.concepts:
            now_LN = scaled(run.path, index, name, view.scale)
            if view.mode == "level":
                shown.append(np.clip(np.rint(now_LN / full * 255), 0, 255).astype(np.uint8))
            else:
                change_LN = now_LN - scaled(run.path, reference, name, view.scale)
                shown.append(np.clip(128 + np.rint(change_LN / full * 127), 1, 255).astype(np.uint8))
        return np.stack(shown)

    return cached(run.path, ("values", view, reference, index), make, lambda made: made.nbytes)


def half_steps(taken: Sequence[CanvasFrame | Snapshot]) -> dict[str, float | None]:
    """The step of half recovery for retrained and held-out data; None if not reached."""
    base = next((one for one in taken if one.phase == "base"), None)
    after = [one for one in taken if one.phase != "base"]
    result: dict[str, float | None] = {}
    for name in ("retrained", "held_out"):
        enough = base is not None and len(after) > 1 and after[0].phase == "edited"
        recovered = [getattr(one, name) for one in after]
        steps = [one.step for one in after]
        result[name] = migration.half_life(steps, recovered, before=getattr(base, name)) if enough else None
    return result


def reference_index(run: RunDirectory, view: View, n_snapshots: int) -> int:
    """Index of the snapshot that changes are counted from: where training starts, or the base if the user chose it."""
    return 0 if view.mode == "since the base" else beginning_index(run, n_snapshots)


def beginning_index(run: RunDirectory, n_snapshots: int) -> int:
    """Index of the snapshot of the weights that training starts from: after the edit, a branch's checkpoint, or the base.

    The phase of the second snapshot decides, because branches of older versions have no snapshot at their checkpoint.
    """
    if n_snapshots < 2:
        return 0
    return cached(run.path, ("begins at",), lambda: int(snapshot(run.path, 1).phase == "edited"), lambda _: 64)


def curve_numbers(run_path: Path, index: int, view: View, reference: int) -> dict[str, Any]:
    """The fields of a `CanvasCurve` for one snapshot of a run or of its control."""
    taken = snapshot(run_path, index)
    mass_CL = mass(run_path, index, view)
    from_CL = mass(run_path, reference, view)
    return {
        "phase": taken.phase,
        "step": taken.step,
        "layer_change_CL": (mass_CL - from_CL).tolist(),
        "centre_C": [migration.centre_of_mass(scaled(run_path, index, name, view.scale)) for name in view.concepts],
        "distance_C": [_distance(a_L, b_L) for a_L, b_L in zip(from_CL, mass_CL)],
        "retrained": taken.retrained,
        "held_out": taken.held_out,
        "neutral_loss": taken.neutral_loss,
    }


def _frame(run: RunDirectory, view: View, facts: RunFacts, index: int, stop: int) -> CanvasFrame:
    taken = snapshot(run.path, index)
    after_edit = beginning_index(run, stop)
    recruits, survivors = [], []
    for name in view.concepts:
        least = threshold(run, name, view.scale)
        now_LN = scaled(run.path, index, name, view.scale)
        none = NeuronSet([], facts.shape)  # nothing is recruited before the training
        found = migration.Roles(none, none)
        if taken.phase == "training":
            found = migration.roles(now_LN, scaled(run.path, after_edit, name, view.scale), facts.edited, least)
        recruits.append(_marks(run, view, index, name, found.recruits))
        survivors.append(_marks(run, view, index, name, found.survivors))
    reference = reference_index(run, view, stop)
    numbers = curve_numbers(run.path, index, view, reference)
    if index < reference:  # the base, counted from the edit: what the edit removed is not migration
        numbers["distance_C"] = [float("nan")] * len(view.concepts)
    flow = [
        ribbons(migration.transport, a_L, b_L) if index > reference else []
        for a_L, b_L in zip(mass(run.path, reference, view), mass(run.path, index, view))
    ]
    return CanvasFrame(
        index=index,
        recruits=tuple(recruits),
        survivors=tuple(survivors),
        flow_C=flow,
        **_followed(run, view, facts.followed, taken),
        **numbers,
    )


def ribbons(planned: Callable[..., migration.Transport], *mass_L: np.ndarray) -> list[tuple[int, int, float]]:
    """A transport plan as a list of moves, without those too thin to be seen (a hundred-thousandth of all mass).

    The list is empty if a mass is not a distribution: the scores of a model that broke down are not finite.
    """
    try:
        moved_LL = planned(*mass_L).moved_LL
    except ConfigError:
        return []
    return [(int(i), int(j), float(moved_LL[i, j])) for i, j in np.argwhere(moved_LL > 1e-5)]


def _distance(before_L: np.ndarray, after_L: np.ndarray) -> float:
    """Wasserstein distance in layers; NaN if one mass is not a distribution."""
    try:
        return migration.wasserstein(before_L, after_L)
    except ConfigError:
        return float("nan")


def _marks(run: RunDirectory, view: View, index: int, name: str, neurons: NeuronSet) -> Marks:
    others = [other for other in run.config.tracked if other != name]
    scores_CK = np.array([scaled(run.path, index, other, view.scale).ravel()[neurons.flat] for other in others])
    thresholds = [threshold(run, other, view.scale) for other in others]
    found_K = migration.strongest_other(scores_CK.reshape(len(others), len(neurons)), thresholds)
    place = np.array([run.config.tracked.index(other) for other in others] + [0] * (256 - len(others)), np.uint8)
    also = np.where(found_K == migration.NO_OTHER, migration.NO_OTHER, place[found_K]).astype(np.uint8)
    return Marks(cells=neurons.flat.astype(np.uint32), also=also)


def _followed(run: RunDirectory, view: View, followed: NeuronSet, taken: Snapshot) -> dict[str, Any]:
    before = snapshot(run.path, taken.index - 1).words if taken.index else {}
    words = [taken.words.get(flat, ()) for flat in followed.flat.tolist()]
    previous = [before.get(flat) for flat in followed.flat.tolist()]
    return {
        "followed_CF": [
            (
                scaled(run.path, taken.index, name, view.scale).ravel()[followed.flat]
                / max(threshold(run, name, view.scale), 1e-12)
            ).tolist()
            for name in view.concepts
        ],
        "words_F": [None if now == then else now for now, then in zip(words, previous)],
        "similarity_F": [taken.similarity.get(flat) for flat in followed.flat.tolist()],
    }


def _base(run: RunDirectory, view: View) -> np.ndarray:
    return np.stack([scaled(run.path, 0, name, view.scale) for name in view.concepts])


def _full_scale(base_CLN: np.ndarray, view: View) -> float:
    """The value of the brightest cell: a high quantile of the unedited model's scores."""
    if view.scale == "rank":
        return 1.0 if view.mode == "level" else 0.5
    share = 0.999 if view.mode == "level" else 0.99
    return float(np.quantile(base_CLN, share)) or 1.0
