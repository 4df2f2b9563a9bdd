"""From snapshots to canvas bytes: what is bright, what is zero, who is marked."""

from pathlib import Path

import numpy as np
import pytest

from analysis import migration, running, runs
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Selection
from analysis.relearn import RelearnConfig
from analysis.runs import RunDirectory
from ui import scene
from ui.scene import View


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tiny_concept: Concept, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    config = RelearnConfig(
        model=str(tiny_folder),
        concept=tiny_concept.name,
        edit=ComponentEdit(selection=Selection(rule="top_k", value=5)),
        steps=4,
        snapshot_every=2,
        batch_size=4,
        learning_rate=1e-2,
        known_threshold=0.0,
        precision="float32",
        device="cpu",
    )
    path = tmp_path_factory.mktemp("runs") / "one"
    run = runs.create(config, path, concepts={tiny_concept.name: tiny_concept})
    running.carry_out(run)
    return run


def _frames(run: RunDirectory, **choice: str):
    facts = run.facts()
    assert facts is not None
    view = View(concepts=("tiny-capitals",), **choice)
    drawn = scene.scene(run, view, facts.edited)
    return drawn, scene.frames(run, view, facts.edited, 0, run.n_snapshots())


def test_change_counts_from_the_edit(run: RunDirectory):
    drawn, frames = _frames(run, mode="since the edit", scale="raw")
    assert drawn.signed
    assert (frames[1].values_CLN == 128).all()  # right after the edit nothing has changed since the edit
    now = run.snapshot(3).saliency["tiny-capitals"]["probeless"]
    then = run.snapshot(1).saliency["tiny-capitals"]["probeless"]
    gained = now - then > 0.05 * drawn.full_scale
    assert gained.any()
    assert (frames[3].values_CLN[0][gained] > 128).all()
    assert np.allclose(frames[3].layer_change_CL[0], (now.sum(1, dtype=float) - then.sum(1, dtype=float)), rtol=1e-6)


def test_change_counts_from_the_base(run: RunDirectory):
    _, frames = _frames(run, mode="since the base", scale="raw")
    assert (frames[0].values_CLN == 128).all()
    facts = run.facts()
    assert facts is not None
    assert (frames[1].values_CLN[0][facts.edited.mask()] < 128).all()  # the pruned lost what they had


def test_level_shows_the_scores_themselves(run: RunDirectory):
    drawn, frames = _frames(run, mode="level", scale="rank")
    assert not drawn.signed
    ranks = migration.scaled(run.snapshot(0), "tiny-capitals", "rank")
    assert np.abs(frames[0].values_CLN[0] / 255 - ranks).max() <= 0.5 / 255 + 1e-6


def test_order_puts_the_strongest_before_the_edit_first(run: RunDirectory):
    drawn, _ = _frames(run, scale="raw", order="before the edit")
    base = run.snapshot(0).saliency["tiny-capitals"]["probeless"]
    in_order = np.take_along_axis(base, drawn.order_LN.astype(int), axis=1)
    assert (np.diff(in_order, axis=1) <= 0).all()
    plain, _ = _frames(run, order="by number")
    assert (plain.order_LN == np.arange(48)).all()


def test_a_live_run_never_rescales(run: RunDirectory):
    facts = run.facts()
    assert facts is not None
    view = View(concepts=("tiny-capitals",), scale="standardised")
    early = scene.frames(run, view, facts.edited, 2, 3)[0]
    late = scene.frames(run, view, facts.edited, 0, 4)[2]
    assert np.array_equal(early.values_CLN, late.values_CLN)
    assert np.array_equal(early.recruits[0], late.recruits[0])


def test_nobody_is_recruited_before_training(run: RunDirectory):
    _, frames = _frames(run, scale="standardised")
    assert [len(frame.recruits[0]) for frame in frames[:2]] == [0, 0]


def test_the_control_is_measured_from_its_own_base(run: RunDirectory):
    curves = scene.control_curves(run, View(concepts=("tiny-capitals",)))
    assert [curve.phase for curve in curves] == ["base", "training"]
    assert set(curves[0].layer_change_CL[0]) == {0.0}


def test_half_steps_need_an_edit_and_training(run: RunDirectory):
    taken = run.snapshots()
    assert scene.half_steps(taken[:2]) == {"retrained": None, "held_out": None}
    assert set(scene.half_steps(taken)) == {"retrained", "held_out"}
