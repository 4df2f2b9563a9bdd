"""From snapshots to canvas bytes: what is bright, what is zero, who is marked."""

from pathlib import Path

import numpy as np
import pytest

from analysis import migration, runs
from analysis.canvas import card_data, control_data, run_cache, run_data
from analysis.canvas.run_cache import View
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Selection
from analysis.relearning import RelearnConfig
from analysis.runs import RunDirectory, execution


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tiny_concept: Concept, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    config = RelearnConfig(
        model=str(tiny_folder),
        concept=tiny_concept.name,
        edit=ComponentEdit(selection=Selection(rule="top_k", value=5)),
        steps=4,
        cadence="steps",
        snapshot_every=2,
        batch_size=4,
        learning_rate=1e-2,
        known_threshold=0.0,
        precision="float32",
        device="cpu",
    )
    path = tmp_path_factory.mktemp("runs") / "one"
    run = runs.create(config, path, concepts={tiny_concept.name: tiny_concept})
    execution.execute(run)
    return run


def _frames(run: RunDirectory, **choice: str):
    facts = run.facts()
    assert facts is not None
    view = View(concepts=("tiny-capitals",), **choice)
    count = run.n_snapshots()
    return run_data.scene(run, view, facts, count), run_data.frames(run, view, facts, 0, count)


def _values(run: RunDirectory, index: int, **choice: str) -> np.ndarray:
    return run_data.values(run, View(concepts=("tiny-capitals",), **choice), index, run.n_snapshots())


def test_change_counts_from_the_edit(run: RunDirectory):
    drawn, frames = _frames(run, mode="since the edit", scale="raw")
    assert drawn.signed
    values = [_values(run, index, mode="since the edit", scale="raw") for index in range(4)]
    assert (values[1] == 128).all()  # right after the edit nothing has changed since the edit
    now = run.snapshot(3).saliency["tiny-capitals"]["probeless"]
    then = run.snapshot(1).saliency["tiny-capitals"]["probeless"]
    gained = now - then > 0.05 * drawn.full_scale
    assert gained.any()
    assert (values[3][0][gained] > 128).all()
    assert np.allclose(frames[3].layer_change_CL[0], (now.sum(1, dtype=float) - then.sum(1, dtype=float)), rtol=1e-6)


def test_change_counts_from_the_base(run: RunDirectory):
    drawn, frames = _frames(run, mode="since the base", scale="raw")
    assert drawn.since == "the base"
    assert set(frames[0].layer_change_CL[0]) == {0.0}
    before, after = (_values(run, index, mode="since the base", scale="raw") for index in (0, 1))
    assert (before == 128).all()
    facts = run.facts()
    assert facts is not None
    assert (after[0][facts.edited.mask()] < 128).all()  # the pruned lost what they had


def test_level_shows_the_scores_themselves(run: RunDirectory):
    drawn, _ = _frames(run, mode="level", scale="rank")
    assert not drawn.signed
    ranks = migration.scaled(run.snapshot(0), "tiny-capitals", "rank")
    assert np.abs(_values(run, 0, mode="level", scale="rank")[0] / 255 - ranks).max() <= 0.5 / 255 + 1e-6


def test_order_puts_the_strongest_before_the_edit_first(run: RunDirectory):
    drawn, _ = _frames(run, scale="raw", order="before the edit")
    base = run.snapshot(0).saliency["tiny-capitals"]["probeless"]
    in_order = np.take_along_axis(base, drawn.order_LN.astype(int), axis=1)
    assert (np.diff(in_order, axis=1) <= 0).all()
    plain, _ = _frames(run, order="by number")
    assert (plain.order_LN == np.arange(48)).all()


def test_a_live_run_never_rescales(run: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    facts = run.facts()
    assert facts is not None
    view = View(concepts=("tiny-capitals",), scale="standardised")
    early = run_data.values(run, view, 2, 3)
    frame = run_data.frames(run, view, facts, 2, 3)[0]
    monkeypatch.setattr(run_cache, "CACHE", type(run_cache.CACHE)(2**20))  # nothing remembered
    assert np.array_equal(early, run_data.values(run, view, 2, 4))
    later = run_data.frames(run, view, facts, 0, 4)[2]
    assert np.array_equal(frame.recruits[0].cells, later.recruits[0].cells)


def test_before_the_moment_after_the_edit_the_picture_is_another(run: RunDirectory):
    facts = run.facts()
    assert facts is not None
    view = View(concepts=("tiny-capitals",))
    assert run_data.scene(run, view, facts, 1).epoch != run_data.scene(run, view, facts, 2).epoch
    assert run_data.scene(run, view, facts, 2).epoch == run_data.scene(run, view, facts, 4).epoch


def test_flow_and_distance_agree_with_the_centre(run: RunDirectory):
    """The plan moves the centre by as much as the centre moved; the distance is at least that."""
    _, frames = _frames(run, scale="raw")
    after, last = frames[1], frames[3]
    shift = sum((end - start) * share for start, end, share in last.flow_C[0])
    assert shift == pytest.approx(last.centre_C[0] - after.centre_C[0], abs=1e-3)
    assert last.distance_C[0] >= abs(shift) - 1e-3
    assert frames[0].flow_C == [[]]
    assert np.isnan(frames[0].distance_C[0])


def test_flow_net_of_the_control_is_told_when_the_control_reaches_a_snapshot(run: RunDirectory):
    view = View(concepts=("tiny-capitals",), scale="raw")
    assert sorted(control_data.net_flows(run, view, 1, 0, 4, 0)) == [2, 3]
    assert sorted(control_data.net_flows(run, view, 1, 4, 4, 1)) == [2, 3]  # the control's base reaches no step
    assert control_data.net_flows(run, view, 1, 4, 4, 2) == {}
    control = run.control
    assert control is not None
    net = control_data.net_flows(run, view, 1, 0, 4, 0)[3][0]
    masses = [migration.layer_mass(one.snapshot(at).saliency["tiny-capitals"]["probeless"]) for one, at in
              ((run, 1), (run, 3), (control, 0), (control, control.n_snapshots() - 1))]  # fmt: skip
    expected = migration.net_transport(*masses).moved_LL
    assert sum(share for _, _, share in net) == pytest.approx(expected.sum(), abs=1e-4)


def test_the_card_tells_scores_and_role_at_its_step(run: RunDirectory):
    facts = run.facts()
    assert facts is not None
    view = View(concepts=("tiny-capitals",), scale="raw")
    pruned = next(iter(facts.edited))
    card = card_data.neuron_card(run, view, facts, pruned, 3)
    assert card["role"] == "pruned"
    row = card["scores"][0]
    scores = [run.snapshot(at).saliency["tiny-capitals"]["probeless"][pruned.layer, pruned.index] for at in (0, 1, 3)]
    assert [row["before"], row["edited"], row["now"]] == pytest.approx(scores)
    assert row["edited"] == 0


def test_nobody_is_recruited_before_training(run: RunDirectory):
    _, frames = _frames(run, scale="standardised")
    assert [len(frame.recruits[0].cells) for frame in frames[:2]] == [0, 0]


def test_the_control_is_measured_from_its_own_base(run: RunDirectory):
    curves = control_data.curves(run, View(concepts=("tiny-capitals",)))
    assert [curve.phase for curve in curves] == ["base", "training"]
    assert set(curves[0].layer_change_CL[0]) == {0.0}


def test_half_steps_need_an_edit_and_training(run: RunDirectory):
    taken = run.snapshots()
    assert run_data.half_steps(taken[:2]) == {"retrained": None, "held_out": None}
    assert set(run_data.half_steps(taken)) == {"retrained", "held_out"}
