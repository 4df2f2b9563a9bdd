"""Branches: what training begins from is measured, and changes count from there."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer.testing

from analysis import migration, runs
from analysis.canvas import control_data, run_data
from analysis.canvas.run_cache import View
from analysis.cli import app
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Selection
from analysis.errors import RunError
from analysis.runs import execution
from analysis.runs.directory import RunDirectory
from analysis.runs.summary import summarise
from tests.small_runs import small_run

STILL = {"learning_rate": 1e-12, "steps": 4}
"""A training that moves nothing."""
OTHER = ComponentEdit(selection=Selection(rule="explicit", components="L1.N3, L1.N4, L1.H0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("branches")


@pytest.fixture(scope="module")
def parent(tiny_folder: Path, tiny_concept: Concept, folder: Path) -> RunDirectory:
    config = small_run(tiny_folder, tiny_concept, steps=4, snapshot_every=2, learning_rate=1e-2)
    run = runs.create(config, folder / "parent", concepts={tiny_concept.name: tiny_concept})
    execution.execute(run)
    return run


@pytest.fixture(scope="module")
def edited(parent: RunDirectory, folder: Path) -> RunDirectory:
    """A branch with an edit and a control, neither of which learns anything."""
    run = execution.branch(parent, 4, edit=OTHER, path=folder / "edited", control=True, **STILL)
    execution.execute(run)
    return run


@pytest.fixture(scope="module")
def unedited(parent: RunDirectory, folder: Path) -> RunDirectory:
    run = execution.branch(parent, 4, edit=None, path=folder / "unedited", **STILL)
    execution.execute(run)
    return run


def moments(run: RunDirectory) -> list[tuple[str, int]]:
    return [(one.phase, one.step) for one in run.moments()]


def view(run: RunDirectory, mode: str = "since the edit") -> View:
    return View(concepts=(run.config.concept,), mode=mode)


def test_a_branch_without_an_edit_measures_its_checkpoint(parent: RunDirectory, unedited: RunDirectory):
    assert moments(unedited) == [("base", 0), ("edited", 0), ("training", 2), ("training", 4)]
    assert unedited.config.n_snapshots == 4
    then, now = parent.snapshot(3), unedited.snapshot(1)
    assert np.array_equal(now.p_held_out_F, then.p_held_out_F)
    assert now.neutral_loss == then.neutral_loss
    for method, scores_LN in then.saliency[parent.config.concept].items():
        assert np.array_equal(now.saliency[parent.config.concept][method], scores_LN)
    base = parent.snapshot(0)
    assert not np.array_equal(base.p_held_out_F, then.p_held_out_F)  # the training did something


def test_the_control_of_a_branch_measures_the_checkpoint_too(parent: RunDirectory, edited: RunDirectory):
    control = edited.control
    assert control is not None
    assert moments(control) == [("base", 0), ("edited", 0), ("training", 4)]
    assert control.config.n_snapshots == 3
    assert control.snapshot(1).neutral_loss == parent.snapshot(3).neutral_loss
    assert edited.snapshot(1).neutral_loss != parent.snapshot(3).neutral_loss


def test_a_branch_that_goes_on_takes_the_snapshot_once(parent: RunDirectory, folder: Path, monkeypatch):
    run = execution.branch(parent, 4, edit=None, path=folder / "interrupted", **STILL)
    (run.path / "stop").touch()  # after the first snapshot
    execution.execute(run)
    assert moments(run) == [("base", 0)]
    execution.resume(run)
    assert moments(run) == [("base", 0), ("edited", 0), ("training", 2), ("training", 4)]
    execution.resume(run, steps=6)
    assert moments(run)[4:] == [("training", 6)]


def test_what_edits_before_touched_counts_as_edited(parent: RunDirectory, edited: RunDirectory, unedited: RunDirectory):
    before, after, without = (run.facts() for run in (parent, edited, unedited))
    assert before
    assert after
    assert without
    own = [1 * before.shape[1] + 3, 1 * before.shape[1] + 4]
    assert after.edited.flat.tolist() == sorted({*before.edited.flat.tolist(), *own})
    assert after.edited_heads == ((1, 0),)
    assert without.edited.flat.tolist() == before.edited.flat.tolist()
    control = edited.control.facts() if edited.control else None
    assert control is not None
    assert control.edited.flat.tolist() == before.edited.flat.tolist()
    assert control.edited_heads == ()


def test_a_branch_of_a_branch_knows_of_all_edits(edited: RunDirectory, folder: Path):
    run = execution.branch(edited, 4, edit=None, path=folder / "second", **STILL)
    execution.execute(run)
    found, before = run.facts(), edited.facts()
    assert found
    assert before
    assert found.edited.flat.tolist() == before.edited.flat.tolist()
    assert found.edited_heads == before.edited_heads == ((1, 0),)


def test_where_nothing_was_learnt_no_ribbon_moves(edited: RunDirectory, unedited: RunDirectory):
    """The control counted from the unedited model moved by all that the run before had learnt."""
    for run in (edited, unedited):
        count = run.n_snapshots()
        facts = run.facts()
        assert facts
        assert run_data.reference_index(run, view(run), count) == 1
        assert run_data.scene(run, view(run), facts, count).since == "the edit"
        last = run_data.frames(run, view(run), facts, 0, count)[-1]
        assert sum(moved for i, j, moved in last.flow_C[0] if i != j) < 1e-4
        assert np.abs(last.layer_change_CL).max() < 1e-3
        assert not last.recruits[0].cells.size
    net = control_data.net_flows(edited, view(edited), 1, 0, edited.n_snapshots(), 0)
    assert net.keys() == {2, 3}
    for (ribbons,) in net.values():
        assert sum(moved for i, j, moved in ribbons if i != j) < 1e-4


def test_the_flow_net_of_a_control_is_that_of_both_trainings(parent: RunDirectory, folder: Path):
    run = execution.branch(parent, 4, edit=OTHER, path=folder / "learns", control=True, steps=4)
    execution.execute(run)
    assert run.control is not None

    def mass_L(snapshot) -> np.ndarray:
        return migration.layer_mass(migration.scaled(snapshot, run.config.concept, "standardised"))

    of_run, of_control = ([mass_L(one) for one in each.snapshots()] for each in (run, run.control))
    expected = migration.net_transport(of_run[1], of_run[3], of_control[1], of_control[2]).moved_LL
    ((ribbons,),) = [control_data.net_flows(run, view(run), 1, 0, 4, 0)[3]]
    assert {(i, j) for i, j, _ in ribbons} == {(i, j) for i, j in np.argwhere(expected > 1e-5).tolist()}
    assert all(moved == pytest.approx(expected[i, j]) for i, j, moved in ribbons)
    from_base = control_data.net_flows(run, view(run, "since the base"), 0, 0, 4, 0)[3]
    expected = migration.net_transport(of_run[0], of_run[3], of_control[0], of_control[2]).moved_LL
    assert all(moved == pytest.approx(expected[i, j]) for i, j, moved in from_base[0])


def test_the_curves_of_a_branchs_control_begin_at_its_checkpoint(edited: RunDirectory):
    curves = control_data.curves(edited, view(edited))
    assert [(one.phase, one.step) for one in curves] == [("edited", 0), ("training", 4)]
    assert curves[0].distance_C == pytest.approx([0])
    assert curves[1].distance_C == pytest.approx([0], abs=1e-4)
    # told of the control's first curve before, the browser still lacks what its second one reaches
    assert control_data.net_flows(edited, view(edited), 1, 4, 4, 1).keys() == {2, 3}
    assert control_data.net_flows(edited, view(edited), 1, 4, 4, 2) == {}


def test_a_summary_counts_from_the_checkpoint(unedited: RunDirectory):
    found = summarise(unedited)
    assert found["edited"]["neutral_loss"] == pytest.approx(found["final"]["neutral_loss"], abs=1e-6)
    assert found["recruits"]["standardised"]["recruits"] == 0


@pytest.mark.parametrize("touched", [True, False])
def test_what_edits_before_touched_is_no_recruit_of_the_control(edited: RunDirectory, tmp_path: Path, touched: bool):
    """They are edited in the control of a branch, too: what they regain there is no recruiting."""
    run = RunDirectory(shutil.copytree(edited.path, tmp_path / "regains"))
    assert summarise(run)["control"]["recruits"]["standardised"]["recruits"] == 0
    control, found = run.control, edited.control.facts() if edited.control else None
    assert control
    assert found
    last, name = control.snapshot(2), run.config.concept
    weakest = found.edited.flat if touched else np.setdiff1d(np.arange(np.prod(found.shape)), found.edited.flat)
    weakest = weakest[control.snapshot(1).saliency[name]["standardised"].ravel()[weakest].argmin()]
    regained = {method: scores_LN.copy() for method, scores_LN in last.saliency[name].items()}
    for scores_LN in regained.values():
        scores_LN.ravel()[weakest] = 2 * scores_LN.max()
    control.write_snapshot(replace(last, saliency={name: regained}))
    assert summarise(run)["control"]["recruits"]["standardised"]["recruits"] == (0 if touched else 1)


def test_a_missing_checkpoint_names_the_setting_that_keeps_them(parent: RunDirectory):
    with pytest.raises(
        RunError, match=r"There are those after 4 steps; a run with the setting `keep_checkpoints` keeps all"
    ):
        execution.branch(parent, 2, edit=None)


def test_a_branch_is_shown_with_the_run_it_is_of(parent: RunDirectory, unedited: RunDirectory):
    assert summarise(parent)["origin"] is None
    assert summarise(unedited)["origin"] == {"run": "parent", "step": 4}
    shown = typer.testing.CliRunner().invoke(app, ["show", str(unedited.path)], catch_exceptions=False)
    assert "branch of parent, from its checkpoint after 4 steps" in shown.stdout


def test_a_branch_without_an_edit_has_the_label_of_the_run_before(parent: RunDirectory, folder: Path):
    run = execution.branch(parent, 4, edit=None, path=folder / "label")
    assert run_data.edit_label(run) == "pruned"
    path = run.path / "origin" / "00" / "config.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({**before, "edit": replace(OTHER, kind="reverse").to_dict()}))
    assert run_data.edit_label(run) == "reversed"
