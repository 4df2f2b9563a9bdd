"""Run directories: what a worker writes, what readers see at every moment of its life and death."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from analysis import runs
from analysis.concepts import Concept
from analysis.errors import ConceptError, PalimpsestError, RunError
from analysis.jobs import JobStatus
from analysis.relearning import RelearnConfig
from analysis.runs import RunDirectory, execution
from analysis.runs.summary import summarise
from tests.small_runs import Finished, small_run


@pytest.fixture
def config(tiny_folder: Path, tiny_concept: Concept) -> RelearnConfig:
    return small_run(
        tiny_folder, tiny_concept, steps=4, snapshot_every=2, neutral_share=0.25, control=True, follow_top=16
    )


@pytest.fixture
def run(config: RelearnConfig, tiny_concept: Concept, tmp_path: Path) -> RunDirectory:
    return runs.create(config, tmp_path / "run", concepts={tiny_concept.name: tiny_concept})


@pytest.fixture
def finished_run(config: RelearnConfig, tmp_path: Path, finished: Finished) -> RunDirectory:
    return finished(config, tmp_path / "run")


def test_a_new_run_is_complete_and_untouched(run: RunDirectory, config: RelearnConfig, tiny_concept: Concept):
    assert RunDirectory(run.path).config == config
    assert run.concepts() == {tiny_concept.name: tiny_concept}
    assert run.record["versions"]["torch"]
    assert (run.n_snapshots(), run.facts(), run.events(), run.control) == (0, None, [], None)
    assert run.status().state == "starting"


def test_create_refuses_a_used_folder_and_leaves_it_alone(config, tiny_concept, tmp_path: Path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="not empty"):
        runs.create(config, folder, concepts={tiny_concept.name: tiny_concept})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (folder / "thesis.txt").read_text() == "precious"


def test_create_with_an_unknown_concept_leaves_nothing(config: RelearnConfig, tmp_path: Path):
    with pytest.raises(ConceptError, match="tiny-capitals"):
        runs.create(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_worker_stores_what_relearning_yields(run: RunDirectory):
    reports = []
    status = execution.execute(run, reports.append)
    assert status.state == run.status().state == "finished"
    taken = run.snapshots()
    assert [(one.index, one.phase, one.step) for one in taken] == [
        (0, "base", 0),
        (1, "edited", 0),
        (2, "training", 2),
        (3, "training", 4),
    ]
    assert run.snapshots(start=3)[0].step == 4
    facts = run.facts()
    assert facts is not None
    assert len(facts.edited) == 5
    pruned = facts.edited.mask()
    assert (taken[-1].saliency["tiny-capitals"]["probeless"][pruned] == 0).all()
    assert (taken[0].saliency["tiny-capitals"]["probeless"][pruned] > 0).all()
    assert [event["step"] for event in run.events() if event["kind"] == "step"] == [1, 2, 3, 4]
    assert reports[-1].stage.startswith("control")


def test_the_control_shares_the_base_and_is_not_edited(finished_run: RunDirectory):
    control = finished_run.control
    assert control is not None
    assert control.status().state == "finished"
    assert [one.phase for one in control.snapshots()] == ["base", "training"]
    base, shared = finished_run.snapshot(0), control.snapshot(0)
    assert np.array_equal(base.p_retrained_F, shared.p_retrained_F)
    found = control.facts()
    assert found is not None
    assert len(found.edited) == 0


def test_summary_holds_what_the_command_line_promises(finished_run: RunDirectory):
    summary = summarise(finished_run)
    for moment in ("base", "edited", "final"):
        assert set(summary[moment]) == {"retrained", "held_out", "neutral_loss"}
        assert summary["center_of_mass"][moment] >= 0
    assert summary["final"]["retrained"] == pytest.approx(finished_run.snapshot(3).retrained, abs=1e-4)
    assert summary["steps"] == 4
    assert summary["snapshots"] == 4
    assert summary["control"]["edited"] is None
    assert json.dumps(summary)


def test_stop_ends_the_run_with_a_last_snapshot(run: RunDirectory):
    def report(done: execution.RunReport) -> None:
        if done.stage.startswith("step 1"):
            run.request_stop()

    status = execution.execute(run, report)
    assert status.state == "stopped"
    assert run.snapshots()[-1].step == 1
    assert run.control is None


def test_a_failing_run_says_why(config, tiny_concept, tmp_path: Path):
    gone = RelearnConfig.from_dict({**config.to_dict(), "model": str(tmp_path / "nowhere" / "model")})
    run = runs.create(gone, tmp_path / "run", concepts={tiny_concept.name: tiny_concept})
    with pytest.raises(PalimpsestError):
        execution.execute(run)
    assert run.status().state == "failed"
    assert "neither a folder nor a GGUF" in run.status().message


def test_a_killed_worker_is_recognised_and_its_snapshots_stay_readable(config, tiny_concept, tmp_path: Path):
    long = RelearnConfig.from_dict({**config.to_dict(), "steps": 5000, "snapshot_every": 1})
    run = runs.create(long, tmp_path / "run", concepts={tiny_concept.name: tiny_concept})
    process = subprocess.Popen([sys.executable, "-m", "analysis.worker", str(run.path)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 120
    while run.n_snapshots() < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.status().state == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    status = run.status()
    assert status.state == "crashed"
    assert "worker.log" in status.message
    assert len(run.snapshots()) >= 4


def test_a_reused_process_id_does_not_look_alive(run: RunDirectory):
    run.write_status(JobStatus(state="running", pid=os.getpid(), pid_started=1.0, host=os.uname().nodename))
    assert run.status().state == "crashed"


def test_started_runs_outlive_their_starter_and_are_listed(config, tiny_concept, empty_home: Path):
    run = runs.start(config, concepts={tiny_concept.name: tiny_concept})
    deadline = time.monotonic() + 120
    while (run.status().active or run.control is None or run.control.status().active) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.status().state == "finished", (run.path / "worker.log").read_text()
    assert [one.name for one in runs.list_runs()] == [run.name]
    assert runs.find(run.name).path == run.path


def test_damaged_files_are_named(finished_run: RunDirectory):
    path = finished_run.path / "snapshots" / "000002.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="000002"):
        finished_run.snapshots()
    (finished_run.path / "facts.json").write_text("{")
    with pytest.raises(RunError, match=r"facts\.json"):
        finished_run.facts()
    (finished_run.path / "status.json").write_text('{"state": "running", "heartbeat": null}')
    assert finished_run.status().state == "failed"
    assert "heartbeat is not a number" in finished_run.status().message


def test_an_event_that_is_still_being_written_is_left_out(run: RunDirectory):
    run.append_event("step", step=1)
    with (run.path / "events.jsonl").open("a") as file:
        file.write('{"kind": "st')
    assert [event["step"] for event in run.events()] == [1]


@pytest.mark.parametrize("reference", ["nowhere", "/tmp", "", "~nosuch", "~nosuch/run", "long" * 2000])
def test_find_refuses_what_is_no_run(reference: str):
    with pytest.raises(RunError, match="There is no run “"):
        runs.find(reference)


def test_folders_with_another_config_are_no_runs(run: RunDirectory, tiny_folder: Path):
    """A model has a config.json, too."""
    shutil.copytree(tiny_folder, run.path.parent / "model")
    damaged = run.path.parent / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text('{"config": {')
    (run.path.parent / "odd" / "config.json").mkdir(parents=True)
    lost = run.path.parent / "lost"
    (lost / "snapshots").mkdir(parents=True)
    (lost / "config.json").write_text('{"title": "whose configuration was lost"}')
    assert [one.name for one in runs.list_runs(run.path.parent)] == ["run", "lost", "damaged"]


def test_a_run_in_the_way_that_took_no_snapshot_can_go_on(run: RunDirectory, config, tiny_concept):
    again = {"config": config, "path": run.path, "concepts": {tiny_concept.name: tiny_concept}}
    run.write_status(JobStatus(state="running", heartbeat=time.time()))
    with pytest.raises(RunError, match=r"not empty. It holds a run \(running\). Name a new folder"):
        runs.create(**again)
    run.write_status(JobStatus(state="failed", message="Too little memory."))
    before = sorted(run.path.rglob("*"))
    with pytest.raises(RunError, match=rf"without a snapshot \(failed\), and `palimpsest resume {run.path}`"):
        runs.create(**again)
    assert sorted(run.path.rglob("*")) == before
    assert execution.resume(run).state == "finished"
    with pytest.raises(RunError, match=r"It holds a run \(finished\). Name a new folder for the run"):
        runs.create(**again)


def test_lines_that_are_no_events_are_left_out(run: RunDirectory):
    lines = ["5", "null", "[]", "{}", '{"kind": 3}', '{"kind": "step"}', '{"kind": "step", "step": "x", "loss": 1}']
    lines += ['{"kind": "step", "step": 1, "loss": 0.5}', '{"kind": "stage", "text": "kept"}']
    (run.path / "events.jsonl").write_text("\n".join(lines) + "\n")
    assert [event["kind"] for event in run.events()] == ["step", "stage"]


@pytest.mark.parametrize("edited", ["x", 5, None, ["a"], [10**9], {"a": 1}])
def test_damaged_facts_are_named(finished_run: RunDirectory, edited):
    path = finished_run.path / "facts.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "edited": edited}))
    with pytest.raises(RunError, match=r"facts\.json is damaged"):
        finished_run.facts()
