"""Runs that were killed, stopped, continued or ran out of space: they go on as if nothing had happened."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import runs
from analysis.concepts import Concept
from analysis.errors import ConfigError, EditError, RunError
from analysis.jobs import JobStatus
from analysis.relearning import RelearnConfig
from analysis.runs import execution
from analysis.runs.directory import RunDirectory
from analysis.runs.summary import summarise
from analysis.training import precision
from tests.runs.equal_runs import assert_same_snapshots, assert_same_state, losses
from tests.small_runs import Finished, small_run

ROOT = Path(__file__).parents[2]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
"""As the tests run: another number of threads adds up in another order."""


class Killed(BaseException):
    """Nothing catches it, so that nothing is tidied up: like kill -9, in the same process."""


@pytest.fixture
def config(tiny_folder: Path, tiny_concept: Concept) -> RelearnConfig:
    return small_run(
        tiny_folder, tiny_concept, steps=7, snapshot_every=2, neutral_share=0.25, learning_rate=3e-3, checkpoint_every=3
    )


@pytest.fixture
def make(tiny_concept: Concept, tmp_path: Path, finished: Finished):
    """A new run directory of a configuration, or a finished one."""

    def made(config: RelearnConfig, name: str, *, done: bool = False) -> RunDirectory:
        if done:
            return finished(config, tmp_path / name)
        return runs.create(config, tmp_path / name, concepts={tiny_concept.name: tiny_concept})

    return made


def kill_at(monkeypatch: pytest.MonkeyPatch, method: str, nth: int, *, after: bool) -> None:
    """Let the process die when a run's method is called for the nth time, before or after it has done its work."""
    original, calls = getattr(RunDirectory, method), []

    def deadly(self: RunDirectory, *arguments, **named):
        calls.append(method)
        if len(calls) == nth and not after:
            raise Killed
        result = original(self, *arguments, **named)
        if len(calls) == nth:
            raise Killed
        return result

    monkeypatch.setattr(RunDirectory, method, deadly)


KILLS = {
    "before the facts are written": ("write_facts", 1, False),
    "before the first snapshot": ("write_snapshot", 1, False),
    "after the first snapshot": ("write_snapshot", 1, True),
    "after the edited model's snapshot": ("write_snapshot", 2, True),
    "before the first checkpoint": ("append_event", 6 + 2, True),
    "while a snapshot is written": ("write_snapshot", 4, False),
    "between two checkpoints": ("write_snapshot", 4, True),
    "before the last snapshot": ("write_snapshot", 6, False),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(config, make, monkeypatch: pytest.MonkeyPatch, moment: str):
    whole, killed = make(config, "whole", done=True), make(config, "killed")
    with monkeypatch.context() as patch:
        method, nth, after = KILLS[moment]
        kill_at(patch, method, nth, after=after)
        with pytest.raises(Killed):
            execution.execute(killed)
    kept = {path: path.stat().st_mtime_ns for path in (killed.path / "snapshots").glob("*.safetensors")}
    assert len(kept) < 6
    killed.write_status(JobStatus(state="crashed"))
    assert execution.resume(killed).state == "finished"
    assert losses(killed) == losses(whole)
    assert [step for step, _ in losses(killed)] == list(range(1, 8))
    assert_same_snapshots(killed.snapshots(), whole.snapshots())
    assert_same_state(killed, whole)
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    seconds = [one.seconds for one in killed.snapshots()]
    assert seconds == sorted(seconds)


VARIANTS = {
    "adaptive": {"cadence": "adaptive", "tracking_share": 0.5},
    "log": {"cadence": "log"},
    "sgd": {"optimiser": "sgd", "learning_rate": 0.05, "schedule": "cosine", "warmup": 2},
    "low rank": {"lora_rank": 2},
    "a part": {"train_only": "L1.MLP, L2.H0"},
    "parts of a batch": {"accumulate": 2, "sentence_share": 0.25},
    "bf16": {"precision": "bf16"},
    "no checkpoint yet": {"checkpoint_every": 0},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_training_goes_on(config, make, monkeypatch: pytest.MonkeyPatch, variant: str):
    config = replace(config, **VARIANTS[variant])
    whole, killed = make(config, "whole", done=True), make(config, "killed")
    with monkeypatch.context() as patch:
        kill_at(patch, "append_event", 6 + 5, after=True)
        with pytest.raises(Killed):
            execution.execute(killed)
    done = losses(killed)[-1][0]
    assert 3 < done < 7
    killed.write_status(JobStatus(state="crashed"))
    execution.resume(killed)
    assert losses(killed) == losses(whole)
    assert_same_state(killed, whole)
    if config.cadence != "adaptive":
        assert_same_snapshots(killed.snapshots(), whole.snapshots())
    else:
        common = {(one.phase, one.step): one for one in whole.snapshots()}
        for one in killed.snapshots():
            if (one.phase, one.step) in common:
                assert one.neutral_loss == common[one.phase, one.step].neutral_loss


def test_a_killed_control_goes_on_and_the_run_is_left_alone(config, make, monkeypatch: pytest.MonkeyPatch):
    config = replace(config, control=True)
    whole, killed = make(config, "whole", done=True), make(config, "killed")
    with monkeypatch.context() as patch:
        kill_at(patch, "write_snapshot", 6 + 2, after=True)
        with pytest.raises(Killed):
            execution.execute(killed)
    assert killed.status().state == "finished"
    assert killed.control is not None
    before = {path: path.stat().st_mtime_ns for path in (killed.path / "snapshots").iterdir()}
    killed.control.write_status(JobStatus(state="crashed"))
    killed.write_status(replace(killed.status(), device="cpu"))
    reports: list[execution.RunReport] = []
    assert execution.resume(killed, reports.append).state == "finished"
    assert all(report.stage.startswith("control: ") for report in reports)
    assert killed.status().device == "cpu"  # as the queue had resolved it
    assert whole.control is not None
    assert killed.control.status().state == "finished"
    assert losses(killed.control) == losses(whole.control)
    assert_same_snapshots(killed.control.snapshots(), whole.control.snapshots())
    assert {path: path.stat().st_mtime_ns for path in (killed.path / "snapshots").iterdir()} == before
    with pytest.raises(RunError, match="has finished"):
        execution.resume(killed)


def test_kill_minus_nine(config, make):
    """A real process, killed at a moment of its own."""
    config = replace(config, steps=60, checkpoint_every=10, snapshot_every=5)
    whole, killed = make(config, "whole"), make(config, "killed")
    process = subprocess.Popen([sys.executable, "-m", "analysis.worker", str(killed.path)], cwd=ROOT, env=ONE_THREAD)
    deadline = time.monotonic() + 120
    while not killed.checkpoints() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert killed.status().state == "crashed"
    assert not killed.is_complete()
    execution.execute(whole)
    execution.resume(killed)
    assert losses(killed) == losses(whole)
    assert_same_snapshots(killed.snapshots(), whole.snapshots())


def test_a_stop_keeps_the_state_and_the_run_goes_on_from_there(config, make):
    whole, stopped = make(config, "whole", done=True), make(config, "stopped")

    def report(done: execution.RunReport) -> None:
        if done.stage.startswith("step 4"):
            stopped.request_stop()

    assert execution.execute(stopped, report).state == "stopped"
    assert stopped.checkpoints() == (4,)
    stages: list[str] = []
    assert execution.resume(stopped, lambda done: stages.append(done.stage)).state == "finished"
    assert "Writing the edit again" in stages
    assert "Going on after step 4" in stages
    assert losses(stopped) == losses(whole)
    assert [one.step for one in stopped.snapshots()] == [0, 0, 2, 4, 6, 7]
    assert_same_snapshots(stopped.snapshots(), whole.snapshots())
    assert_same_state(stopped, whole)


def test_steps_can_be_added_to_a_finished_run(config, make):
    config = replace(config, control=True)
    longer, short = make(replace(config, steps=12), "longer", done=True), make(config, "short", done=True)
    execution.resume(short, steps=12)
    assert RunDirectory(short.path).config == longer.config
    (entry,) = short.record["continued"]
    assert (entry["from"], entry["to"]) == (7, 12)
    for one, other in ((short, longer), (short.control, longer.control)):
        assert one is not None
        assert other is not None
        assert losses(one) == losses(other)
        assert_same_state(one, other)
        common = {(snapshot.phase, snapshot.step): snapshot for snapshot in one.snapshots()}
        for snapshot in other.snapshots():
            assert common[snapshot.phase, snapshot.step].neutral_loss == snapshot.neutral_loss
    assert [one.step for one in short.snapshots()] == [0, 0, 2, 4, 6, 7, 8, 10, 12]
    assert [one.index for one in short.snapshots()] == list(range(9))


def test_what_cannot_go_on_says_why(config, make):
    run = make(config, "run", done=True)
    with pytest.raises(RunError, match="has finished"):
        execution.resume(run)
    with pytest.raises(ConfigError, match="7 steps are done already"):
        execution.resume(run, steps=5)
    run.write_status(replace(run.status(), state="running", pid=os.getpid(), pid_started=None))
    with pytest.raises(RunError, match="is running"):
        execution.prepare(run, steps=9)
    assert RunDirectory(run.path).config.steps == 7


def test_a_checkpoint_of_other_texts_is_refused(config, make):
    run = make(config, "run", done=True)
    path = run.path / "concepts" / "tiny-capitals.jsonl"
    path.write_text(path.read_text().replace("do not miss its capital", "see its capital"))
    with pytest.raises(RunError, match="began with another concept “tiny-capitals”"):
        execution.resume(run, steps=9)
    facts = run.path / "facts.json"  # a run of a version that kept no digests: its checkpoint still knows the texts
    facts.write_text(
        json.dumps({key: value for key, value in json.loads(facts.read_text()).items() if key != "digests"})
    )
    with pytest.raises(EditError, match="belongs to another text"):
        execution.resume(run, steps=9)


def test_all_checkpoints_or_the_newest(config, make):
    newest, all_kept = (make(replace(config, keep_checkpoints=kept), str(kept), done=True) for kept in (False, True))
    assert newest.checkpoints() == (7,)
    assert all_kept.checkpoints() == (3, 6, 7)


FULL = {
    "a snapshot": ("analysis.runs.files.paths.write_atomically", lambda path: path.parent.name == "snapshots"),
    "a checkpoint": ("analysis.training.checkpoint.save_file", lambda tensors, path: "step-" in Path(path).name),
    "an edit": ("analysis.edits.deltas.save_file", lambda tensors, path: True),
}


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_ends_the_run_with_what_to_do(config, make, monkeypatch: pytest.MonkeyPatch, what: str):
    whole, run = make(config, "whole", done=True), make(config, "run")
    target, concerns = FULL[what]
    module, name = target.rsplit(".", 1)
    owner = eval_module(module)
    original, calls = getattr(owner, name), []

    def full(*arguments, **named):
        if concerns(*arguments[:2] if "save_file" in name else arguments[:1]):
            calls.append(arguments)
            if len(calls) == (1 if what == "an edit" else 2):
                raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(RunError, match="is full"):
            execution.execute(run)
    status = run.status()
    assert status.state == "failed"
    assert "Free some space" in status.message
    assert "then resume" in status.message
    before = run.snapshots()
    assert [event for event in run.events() if event["kind"] == "error"]
    assert not list(run.path.rglob(".*.tmp"))
    assert not (run.path / ".reserve").exists()
    execution.resume(run)
    assert losses(run) == losses(whole)
    assert_same_snapshots(run.snapshots(), whole.snapshots())
    assert_same_snapshots(run.snapshots()[: len(before)], before)


def eval_module(name: str):
    """The module, or the module in a module's namespace, that a dotted name stands for."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, attribute = name.rsplit(".", 1)
        return getattr(importlib.import_module(module), attribute)


def test_an_event_cut_by_a_full_disk_is_left_out_and_the_next_begins_a_line(config, make):
    run = make(config, "run")
    run.append_event("step", step=1, loss=1.0)
    with (run.path / "events.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    run.end_events_line()
    run.append_event("step", step=2, loss=0.5)
    run.append_event("step", step=1, loss=0.75)
    assert losses(run) == [(1, 0.75), (2, 0.5)]
    run.end_events_line()
    assert run.path.joinpath("events.jsonl").read_text().endswith("}\n")
    assert len(run.events()) == 2


def test_too_little_room_on_the_disk_is_refused_with_both_numbers(config, make, monkeypatch: pytest.MonkeyPatch):
    run = make(config, "run")
    usage = type("Usage", (), {"free": 2**10})()
    monkeypatch.setattr("analysis.relearning.resources.shutil.disk_usage", lambda path: usage)
    with pytest.raises(RunError, match=r"need about 0\.0 GiB; 0\.0 GiB are free on the disk"):
        execution.execute(run)
    assert run.n_snapshots() == 0


def test_a_run_of_an_older_version_without_checkpoints_can_be_continued(config, make):
    """It has neither a checkpoint nor the edit's difference: everything is done again but the snapshots it has."""
    longer, old = make(replace(config, steps=9), "longer", done=True), make(config, "old", done=True)
    for path in (*(old.path / "checkpoints").iterdir(), *(old.path / "edits").iterdir()):
        path.unlink()
    before = old.snapshots()
    execution.resume(old, steps=9)
    assert losses(old) == losses(longer)
    assert_same_snapshots(old.snapshots()[: len(before)], before)
    assert np.array_equal(old.snapshots()[-1].p_held_out_F, longer.snapshots()[-1].p_held_out_F)
    assert json.dumps(old.record)


def test_a_run_goes_on_in_the_format_it_began_with(config, make, monkeypatch: pytest.MonkeyPatch):
    """“auto” chooses on each machine; a run that moves to a slower or faster one keeps its format, and so does its control."""

    def machine(faster: str) -> None:
        chosen = precision.ChosenPrecision(faster, f"{faster} is faster here")
        monkeypatch.setattr(precision, "_on_processor", lambda processor, file: chosen)

    config = replace(config, precision="auto", control=True)
    machine("bf16")
    whole = make(replace(config, precision="bf16", steps=5, checkpoint_every=0), "whole", done=True)
    run = make(replace(config, steps=3), "moved")
    execution.execute(run)
    machine("float32")
    execution.resume(run, steps=5)
    assert losses(run) == losses(whole)
    assert_same_snapshots([replace(run.snapshots()[-1], index=0)], [replace(whole.snapshots()[-1], index=0)])
    for one in (run, run.control):
        found = one.facts() if one is not None else None
        assert found is not None
        assert found.precision == precision.ChosenPrecision("bf16", "bf16 is faster here")
    assert run.config.precision == "auto"
    assert summarise(run)["precision"] == {"name": "bf16", "reason": "bf16 is faster here"}
    assert summarise(whole)["precision"] == {"name": "bf16", "reason": "as set"}


@pytest.mark.parametrize("part", ["run", "control"])
def test_a_process_that_died_after_the_last_snapshot_left_a_finished_run(part: str, config, make):
    """Only the last status is missing; taking the run up writes it, and nothing else happens."""
    run = make(replace(config, steps=2, control=part == "control"), "run", done=True)
    victim = run if part == "run" else run.control
    assert victim is not None
    before, events = victim.snapshots(), victim.events()
    victim.write_status(JobStatus(state="crashed", step=2))
    execution.resume(run)
    assert run.status().state == victim.status().state == "finished"
    assert_same_snapshots(victim.snapshots(), before)
    assert victim.events() == events
    with pytest.raises(RunError, match="has finished"):
        execution.resume(run)
