"""Runs of the tagging task that are killed, stopped or branched: as if nothing had happened, bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.errors import ConfigError
from analysis.jobs import JobStatus
from analysis.runs import execution
from analysis.runs.directory import RunDirectory
from tests.relearning.tagging.short_run import CONFIG, losses, newest, state, told


class Killed(BaseException):
    """Nothing catches it, so that nothing is tidied up: like kill -9, in the same process."""


IN_TUNING = "in fine-tuning, after a checkpoint"
KILLS = {
    "in fine-tuning, before its first checkpoint": ("append_event", 3, True),
    IN_TUNING: ("append_event", 6, True),
    "before the facts are written": ("write_facts", 1, False),
    "before the first snapshot": ("write_snapshot", 1, False),
    "after the edited model's snapshot": ("write_snapshot", 2, True),
    "in retraining": ("write_snapshot", 3, True),
    "before the last snapshot": ("write_snapshot", 5, False),
}


@pytest.mark.parametrize(
    ("moment", "changes"),
    [*((moment, {}) for moment in KILLS), (IN_TUNING, {"lora_rank": 2}), ("in retraining", {"lora_rank": 2})],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    make, monkeypatch: pytest.MonkeyPatch, moment: str, changes: dict
):
    config = replace(CONFIG, **changes)
    whole, killed = make("whole", config, done=True), make("killed", config)
    method, nth, after = KILLS[moment]
    original, calls = getattr(RunDirectory, method), []

    def deadly(self: RunDirectory, *arguments, **named):
        calls.append(method)
        if len(calls) == nth and not after:
            raise Killed
        original(self, *arguments, **named)
        if len(calls) == nth:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, method, deadly)
        with pytest.raises(Killed):
            execution.execute(killed)
    under_way = "fine-tuning" in moment
    assert (killed.fine_tuned / "values.safetensors").is_file() is not under_way
    assert (killed.fine_tuned / "state").is_dir() is (moment == IN_TUNING)
    killed.write_status(JobStatus(state="crashed"))
    assert execution.resume(killed).state == "finished"
    for kind in ("fine_tune_step", "step"):
        assert losses(killed, kind) == losses(whole, kind)
        assert [step for step, _ in losses(killed, kind)] == [1, 2, 3, 4, 5]
    assert [told(one) for one in killed.snapshots()] == [told(one) for one in whole.snapshots()]
    first, second = newest(killed), newest(whole)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [path.name for path in killed.fine_tuned.iterdir()] == ["values.safetensors"]


def test_a_stop_in_fine_tuning_keeps_the_state(make):
    whole, stopped = make("whole", done=True), make("stopped")
    stages: list[str] = []

    def report(done: execution.RunReport) -> None:
        stages.append(done.stage)
        if done.stage.startswith("Fine-tuning: step 3"):
            stopped.request_stop()

    assert execution.execute(stopped, report).state == "stopped"
    assert stages[-1] == "Fine-tuning: step 3 of 5"
    assert stopped.n_snapshots() == 0
    assert execution.resume(stopped, lambda done: stages.append(done.stage)).state == "finished"
    assert "Fine-tuning: step 4 of 5" in stages
    assert any(stage.startswith("snapshot 1: F1 ") for stage in stages)
    assert losses(stopped, "fine_tune_step") == losses(whole, "fine_tune_step")
    assert [told(one) for one in stopped.snapshots()] == [told(one) for one in whole.snapshots()]


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}], ids=["whole", "low rank"])
def test_a_branch_begins_with_the_weights_and_the_head_of_its_checkpoint(make, trainers, tmp_path: Path, changes: dict):
    """Bit for bit, after a step that is too small to change anything; and so does a branch of the branch."""
    run = make("run", replace(CONFIG, **changes))
    execution.execute(run)
    weights, head = state(trainers[-1])
    before = run
    for name in ("branch", "branch of the branch"):
        still = {"learning_rate": 1e-30, "weight_decay": 0.0, "steps": 1}
        new = execution.branch(before, before.config.steps, edit=None, path=tmp_path / name, **still)
        before.path.rename(tmp_path / f"{name}: gone")  # it needs nothing of the run before any more
        assert execution.execute(new).state == "finished"
        assert losses(new, "fine_tune_step") == []
        weights_then, head_then = state(trainers[-1])
        assert all(torch.equal(weights_then[key], value) for key, value in weights.items())
        assert torch.equal(head_then, head)
        before = new
    base, begun, last = before.snapshots()
    assert begun.phase == "edited"
    gone = RunDirectory(tmp_path / "branch: gone").snapshots()
    assert told(base)[4:] == told(gone[0])[4:]
    # up to rounding: factors are merged now, and were not when the last snapshot was taken
    assert last.metrics == gone[-1].metrics
    assert last.neutral_loss == pytest.approx(gone[-1].neutral_loss, rel=1e-6)
    assert last.p_held_out_F == pytest.approx(gone[-1].p_held_out_F, rel=1e-5)
    assert last.p_held_out_F.tolist() != base.p_held_out_F.tolist()


def test_a_branch_of_a_control_begins_with_its_runs_fine_tuned_model(make, tmp_path: Path):
    run = make("run", replace(CONFIG, control=True))
    execution.execute(run)
    assert run.control is not None
    new = execution.branch(run.control, 5, edit=None, path=tmp_path / "branch", steps=1, learning_rate=1e-30)
    assert execution.execute(new).state == "finished"
    assert losses(new, "fine_tune_step") == []
    assert told(new.snapshot(0))[4:] == told(run.control.snapshot(0))[4:]
    assert new.snapshots()[-1].metrics == run.control.snapshots()[-1].metrics


def test_a_branch_keeps_its_task(make):
    run = make("run", done=True)
    with pytest.raises(ConfigError, match="A branch has “task”"):
        execution.branch(run, 5, edit=None, task="facts")
