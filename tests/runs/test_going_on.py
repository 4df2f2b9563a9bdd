"""What may go on, and what must not be mixed: two processes, two schedules, two runs' checkpoints."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis import runs
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Selection
from analysis.errors import ConfigError, EditError, RunError
from analysis.jobs import JobStatus, lock, queue_rules
from analysis.relearning import RelearnConfig, resources
from analysis.runs import execution
from analysis.runs.directory import RunDirectory
from analysis.runs.summary import summarise
from tests.small_runs import Finished, small_run

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Nothing catches it: like kill -9, in the same process."""


@pytest.fixture
def config(tiny_folder: Path, tiny_concept: Concept) -> RelearnConfig:
    return small_run(
        tiny_folder, tiny_concept, steps=6, snapshot_every=1, learning_rate=3e-3, checkpoint_every=3, follow_top=0
    )


@pytest.fixture
def make(tiny_concept: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Finished):
    """A new run directory of a configuration, or a finished one; nothing waits, and no worker is started."""
    monkeypatch.setenv("PALIMPSEST_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(execution, "_WAIT", 0.1)
    monkeypatch.setattr(queue_rules, "command", lambda device: [sys.executable, "-c", ""])

    def made(config: RelearnConfig, name: str, *, done: bool = False) -> RunDirectory:
        if done:
            return finished(config, tmp_path / name)
        return runs.create(config, tmp_path / name, concepts={tiny_concept.name: tiny_concept})

    return made


def killed_after(run: RunDirectory, n_snapshots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Carry out a run until its last snapshot of so many is written."""
    original = RunDirectory.write_snapshot

    def deadly(self: RunDirectory, snapshot) -> None:
        original(self, snapshot)
        if snapshot.index == n_snapshots - 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_snapshot", deadly)
        with pytest.raises(Killed):
            execution.execute(run)
    run.write_status(JobStatus(state="crashed"))


def told(run: RunDirectory) -> list[tuple]:
    return [(one.index, one.phase, one.step, one.loss, one.neutral_loss) for one in run.snapshots()]


def losses(run: RunDirectory) -> list[tuple[int, float]]:
    return [(event["step"], event["loss"]) for event in run.events() if event["kind"] == "step"]


@pytest.mark.parametrize("checkpoint_every", [3, 0])
def test_more_steps_after_a_crash_leave_one_course_of_the_learning_rate(config, make, monkeypatch, checkpoint_every):
    falling = replace(config, schedule="cosine", checkpoint_every=checkpoint_every)
    late, early = make(falling, "late"), make(falling, "early")
    killed_after(late, 2 + 5, monkeypatch)  # two steps after the checkpoint
    killed_after(early, 2 + checkpoint_every, monkeypatch)  # the very snapshot after it
    assert len(late.snapshots()) == 7
    for run in (late, early):
        execution.resume(run, steps=12)
    assert told(late) == told(early)
    assert losses(late) == losses(early)
    assert [step for step, _ in losses(late)] == list(range(1, 13))
    of_snapshot = {step: loss for _, phase, step, loss, _ in told(late) if phase == "training"}
    assert of_snapshot == pytest.approx(dict(losses(late)))  # a snapshot after every step: one loss each


def test_more_steps_at_the_same_rate_keep_every_snapshot(config, make, monkeypatch):
    run = make(replace(config, schedule="constant"), "run")
    killed_after(run, 2 + 5, monkeypatch)
    before = told(run)
    execution.prepare(run, steps=12)
    assert told(run) == before


def test_the_control_begins_its_steps_anew_too(config, make, monkeypatch):
    run = make(replace(config, schedule="linear", control=True), "run")
    original = RunDirectory.write_snapshot

    def deadly(self: RunDirectory, snapshot) -> None:
        original(self, snapshot)
        if self.path.name == "control" and snapshot.step == 4:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_snapshot", deadly)
        with pytest.raises(Killed):
            execution.execute(run)
    control = run.control
    assert control is not None
    control.write_status(JobStatus(state="crashed"))
    execution.resume(run, steps=9)
    assert run.control is not None
    steps = [one.step for one in run.control.moments()]
    assert steps == sorted(steps)
    assert [step for step, _ in losses(run.control)] == list(range(1, 10))


def test_nothing_is_changed_while_the_control_is_at_work(config, make):
    run = make(replace(config, control=True), "run", done=True)
    control = run.control
    assert control is not None
    at_work = replace(control.status(), state="running", pid=os.getpid(), pid_started=None, boot="")
    control.write_status(at_work)
    run.request_stop()
    before = (run.path / "config.json").read_bytes()
    for go_on in (execution.prepare, execution.restart, execution.resume):
        with pytest.raises(RunError, match="control” is running"):
            go_on(run, steps=50)
    assert (run.path / "config.json").read_bytes() == before
    assert run.stop_requested()


def test_nothing_is_changed_while_it_is_queued(config, make):
    run = make(config, "run", done=True)
    execution.restart(run, steps=9)
    assert RunDirectory(run.path).config.steps == 9
    before = (run.path / "config.json").read_bytes()
    run.write_status(JobStatus(state="finished"))  # as while its control is at work, which the queue knows of
    for go_on in (execution.prepare, execution.restart):
        with pytest.raises(RunError, match="in the queue"):
            go_on(run, steps=50)
    assert (run.path / "config.json").read_bytes() == before


def test_what_the_queue_refuses_is_not_changed(config, make, monkeypatch):
    run = make(config, "run", done=True)

    def refuse(*_: object) -> int:
        raise RunError("refused")

    monkeypatch.setattr("analysis.runs.execution.queue.submit", refuse)
    with pytest.raises(RunError, match="refused"):
        execution.restart(run, steps=50)
    assert RunDirectory(run.path).config.steps == 6


def test_the_later_of_two_who_give_steps_finds_what_the_first_gave(config, make):
    run = make(config, "run", done=True)
    one, other = RunDirectory(run.path), RunDirectory(run.path)
    assert one.config.steps == other.config.steps == 6
    execution.resume(one, steps=9)
    with pytest.raises(ConfigError, match="9 steps are done already"):
        execution.resume(other, steps=8)
    assert RunDirectory(run.path).config.steps == 9


def test_fewer_steps_than_are_done_are_refused(config, make):
    run = make(config, "run", done=True)
    record = run.record
    record["config"]["steps"] = 4
    (run.path / "config.json").write_text(json.dumps(record))
    again = RunDirectory(run.path)
    for go_on in (execution.prepare, execution.execute):
        with pytest.raises(ConfigError, match="4 steps, but 6 are done already"):
            go_on(again)
    assert again.status().state == "finished"


def test_a_second_process_is_refused_and_writes_nothing(config, make):
    run = make(config, "run")
    code = (
        "import sys, pathlib; from analysis.jobs import lock\n"
        "with lock.held(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        before = sorted(run.path.rglob("*"))
        for go_on in (execution.execute, execution.prepare, execution.resume, execution.restart):
            with pytest.raises(RunError, match="executed or changed by another process"):
                go_on(run)
        assert sorted(run.path.rglob("*")) == before
        other.kill()
    with lock.held(run.path, wait=5):  # it ended with its process
        pass
    assert execution.execute(run).state == "finished"


def test_while_a_run_is_carried_out_its_lock_is_held(config, make, monkeypatch):
    run, refused = make(config, "run"), []
    original = RunDirectory.write_snapshot

    def also(self: RunDirectory, snapshot) -> None:
        original(self, snapshot)
        with pytest.raises(RunError, match="another process"), lock.held(self.path):
            pass
        refused.append(snapshot.index)

    monkeypatch.setattr(RunDirectory, "write_snapshot", also)
    execution.execute(run)
    assert refused == list(range(8))


FOREIGN = {
    "edit": {"edit": ComponentEdit(selection=Selection(rule="explicit", components="L0.N1, L0.N2"))},
    "seed": {"seed": 7},
    "learning rate": {"learning_rate": 1e-2},
    "schedule": {"schedule": "linear"},
    "optimiser": {"optimiser": "sgd", "momentum": 0.0},
    "accumulate": {"accumulate": 2},
    "weight decay": {"weight_decay": 0.5},
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_checkpoint_of_another_training_is_refused(config, make, what: str):
    run, foreign = make(config, "run", done=True), make(replace(config, **FOREIGN[what]), "foreign", done=True)
    shutil.rmtree(run.path / "checkpoints")
    shutil.copytree(foreign.path / "checkpoints", run.path / "checkpoints")
    with pytest.raises(EditError, match=f"belongs to another {what}"):
        execution.resume(run, steps=9)


def test_a_checkpoint_may_be_followed_and_kept_in_other_ways(config, make, tiny_concept):
    """Steps, cadence, checkpoints and tracking decide nothing of a step."""
    run = make(config, "run", done=True)
    changes = {"snapshot_every": 2, "checkpoint_every": 1, "keep_checkpoints": True, "follow_top": 2, "cadence": "log"}
    other = make(replace(config, steps=9, **changes), "other")
    shutil.copytree(run.path / "checkpoints", other.path / "checkpoints")
    assert execution.resume(other).state == "finished"


def test_a_checkpoint_of_an_older_version_is_taken(config, make, monkeypatch):
    run = make(config, "run")
    with monkeypatch.context() as patch:
        patch.setattr("analysis.relearning.trainer.Trainer._identity", lambda self: {"text": self.mixture.digest})
        execution.execute(run)
    assert execution.resume(run, steps=9).state == "finished"


def test_a_run_that_fitted_its_disk_goes_on_there(config, make, monkeypatch):
    """Nearly all of what it needs is written already, and is not asked for again."""
    config = replace(config, steps=12, checkpoint_every=1, keep_checkpoints=True)
    run = make(config, "run")
    size = resources.ModelSize.stored(Path(config.model))
    disk = resources.disk_bytes(config, size) + 2 * 2**16  # config.json, the edit, what was set aside for last words

    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=disk - sum(one.stat().st_size for one in run.path.rglob("*") if one.is_file()))

    monkeypatch.setattr("analysis.relearning.resources.shutil.disk_usage", usage)
    stop = RunDirectory.stop_requested
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "stop_requested", lambda self: len(self.checkpoints()) >= 10)
        assert execution.execute(run).state == "stopped"
    assert RunDirectory.stop_requested is stop
    left = usage(run.path).free
    assert left < resources.disk_bytes(config, size) / 2
    assert execution.resume(run).state == "finished"
    # and where what is still to be written does not fit, it says so
    monkeypatch.setattr("analysis.relearning.resources.shutil.disk_usage", lambda path: SimpleNamespace(free=2**10))
    with pytest.raises(RunError, match="are free on the disk"):
        execution.resume(run, steps=14)


@pytest.mark.parametrize("control", [False, True])
def test_at_most_is_what_a_run_and_its_control_may_write(config, make, monkeypatch, control: bool):
    config = replace(config, cadence="adaptive", steps=40, checkpoint_every=0, control=control)
    monkeypatch.setattr("analysis.relearning.tracking.cadence.Cadence.due", lambda self, step: True)
    run = make(config, "run")
    execution.execute(run)
    assert run.n_snapshots() == 2 + 40  # on a device where they take no time
    size = resources.ModelSize.stored(Path(config.model))
    folders = [
        folder for one in (run, run.control) if one for folder in (one.path / "snapshots", one.path / "checkpoints")
    ]
    written = sum(path.stat().st_size for folder in folders for path in folder.iterdir())
    assert written < resources.disk_bytes(config, size)
    alone = replace(config, control=False)
    one_snapshot = 4 * size.n_layers * size.n_neurons * 2
    more = resources.disk_bytes(config, size) - resources.disk_bytes(alone, size)
    assert more == 0 if not control else more > 40 * one_snapshot
    each_step = resources.disk_bytes(replace(config, steps=41), size) - resources.disk_bytes(config, size)
    assert each_step > one_snapshot * (2 if control else 1)


@pytest.mark.parametrize("damaged", [0, 1, 4, 7])
def test_what_a_damaged_snapshots_message_says_helps(config, make, damaged: int):
    run = make(config, "run", done=True)
    path = run.path / "snapshots" / f"{damaged:06d}.safetensors"
    path.write_bytes(b"junk")
    with pytest.raises(RunError, match=r"Delete it and all later ones in .*, then resume the run"):
        run.snapshots()
    for later in range(damaged, 8):
        (run.path / "snapshots" / f"{later:06d}.safetensors").unlink()
    assert execution.resume(run).state == "finished"
    found = run.snapshots()
    assert [one.index for one in found] == list(range(len(found)))
    assert [(one.phase, one.step) for one in found[:2]] == [("base", 0), ("edited", 0)]
    assert found[-1].step == 6
    assert run.facts() is not None


@pytest.mark.parametrize("missing", [[1], [3], [2, 3, 5], [6]])
def test_a_snapshot_that_is_missing_is_left_out(config, make, missing: list[int], caplog: pytest.LogCaptureFixture):
    """Whoever reads the run finds the others, numbered without a gap; where it goes on, they stay as they are."""
    run = make(config, "run", done=True)
    before = run.snapshots()
    for index in missing:
        (run.path / "snapshots" / f"{index:06d}.safetensors").unlink()
    left = [one for one in before if one.index not in missing]
    assert run.n_snapshots() == len(left)
    found, *_ = (RunDirectory(run.path).snapshots() for _ in range(3))
    assert [(one.phase, one.step) for one in found] == [(one.phase, one.step) for one in left]
    assert [one.index for one in found] == list(range(len(left)))
    assert run.snapshot(len(left) - 1).step == 6
    assert [one.index for one in run.snapshots(start=2)] == list(range(2, len(left)))
    assert [(one.phase, one.step) for one in run.moments()] == [(one.phase, one.step) for one in left]
    assert run.is_complete()
    said = [record.message for record in caplog.records if "is shown without" in record.message]
    assert len(said) == 1
    assert f"lacks {len(missing)} snapshots, the first is {missing[0]:06d}.safetensors" in said[0]
    with pytest.raises(RunError, match="cannot be read"):
        run.snapshot(len(left))
    execution.resume(run, steps=8)
    steps = [*(one.step for one in left), 7, 8]
    assert [(one.index, one.step) for one in run.snapshots()] == list(enumerate(steps))
    assert summarise(run)["steps"] == 8


def test_snapshots_that_come_after_a_deletion_leave_no_gap(config, make):
    """The worker counts its own snapshots and knows nothing of what was deleted meanwhile."""
    run = make(config, "run", done=True)
    last = run.snapshots()[-1]
    (run.path / "snapshots" / "000003.safetensors").unlink()
    for more in range(1, 4):
        run.write_snapshot(replace(last, index=last.index + more, step=last.step + more))
    assert sorted(path.name for path in (run.path / "snapshots").iterdir()) == [
        f"{number:06d}.safetensors" for number in range(last.index + 4) if number != 3
    ]
    assert [one.step for one in run.moments()][-3:] == [last.step + more for more in range(1, 4)]


def test_a_stray_file_with_a_large_number_costs_nothing(config, make, caplog: pytest.LogCaptureFixture):
    run = make(config, "run", done=True)
    count = run.n_snapshots()
    shutil.copyfile(run.path / "snapshots" / "000000.safetensors", run.path / "snapshots" / "999999.safetensors")
    begun = time.perf_counter()
    assert run.n_snapshots() == count + 1
    assert time.perf_counter() - begun < 1
    assert max(len(record.message) for record in caplog.records) < 1000


def test_without_its_first_snapshot_a_run_says_what_to_do(config, make):
    """All others are compared with that of the unedited model."""
    run = make(config, "run", done=True)
    (run.path / "snapshots" / "000000.safetensors").unlink()
    for read in (run.snapshots, run.moments, lambda: execution.resume(run, steps=8)):
        with pytest.raises(RunError, match=r"000000.safetensors cannot be read .* Delete it and all later ones"):
            read()


def test_the_time_of_a_run_that_goes_on_adds_up(config, make):
    run = make(config, "run", done=True)
    record = run.snapshots()[-1]
    run.write_snapshot(replace(record, seconds=1000.0))
    assert 1000 < execution.resume(run, steps=7).seconds < 1100
