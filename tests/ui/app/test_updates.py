"""What a page is told between two drawings: of a run it follows, and of all runs and the queue."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from analysis import concepts, runs
from analysis.concepts import Concept
from analysis.jobs import JobStatus, queue, queue_rules
from analysis.jobs.job import by_this_process
from analysis.runs import RunDirectory, execution
from tests.jobs.queue_line import Line, opened, stand_in, wait
from tests.small_runs import small_run
from ui.app import updates

Ask = Callable[[str], tuple[int, Any]]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is kept, and no server answers yet."""
    monkeypatch.setattr(updates, "_answers", {})
    monkeypatch.setattr(updates, "_served", False)
    monkeypatch.setattr(updates, "_CACHE_RUN", 0.0)
    monkeypatch.setattr(updates, "_CACHE_OVERVIEW", 0.0)


@pytest.fixture
def run(tiny_folder: Path, tiny_concept: Concept, empty_home: Path) -> RunDirectory:
    """A run that was made and has not begun."""
    concepts.save(tiny_concept)
    return runs.create_in_home(small_run(tiny_folder, tiny_concept, steps=2, control=True))


@pytest.fixture
def line(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(queue_rules, "command", stand_in)
    yield from opened(empty_home)


@pytest.fixture
def ask() -> Ask:
    def asked(query: str) -> tuple[int, Any]:
        response = asyncio.run(
            updates._answer(Request({"type": "http", "query_string": query.encode(), "headers": []}))
        )
        return response.status_code, json.loads(bytes(response.body))

    return asked


def test_a_run_s_answer_changes_with_snapshots_states_and_the_control(run: RunDirectory, ask: Ask):
    before = ask(f"run={run.name}")
    execution.execute(run)
    after = ask(f"run={run.name}")
    assert before == (200, {"version": "0 starting", "text": "starting", "progress": 0.0})
    assert run.control is not None
    version = f"{run.n_snapshots()} finished {run.control.n_snapshots()} finished"
    assert after == (200, {"version": version, "text": "", "progress": None})
    assert after[1]["version"] == updates.run_update(run).version
    (run.path / "snapshots" / f"{run.n_snapshots() - 1:06d}.safetensors").unlink()
    assert ask(f"run={run.name}")[1]["version"] != version


def test_steps_change_the_text_alone(run: RunDirectory, ask: Ask):
    told = []
    for step in (0, 1):
        run.write_status(by_me(run, state="running", message=f"Step {step} of 2", step=step, seconds=10.0 * step))
        told.append(ask(f"run={run.name}")[1])
    assert [one["text"] for one in told] == ["Step 0 of 2", "Step 1 of 2 · 10 s"]
    assert [one["progress"] for one in told] == [0.0, 0.5]
    assert told[0]["version"] == told[1]["version"] == "0 running"


def test_the_time_between_a_run_and_its_control_changes_the_version(run: RunDirectory, ask: Ask):
    run.write_status(by_me(run, state="finished", message="Finished", step=2))
    assert ask(f"run={run.name}")[1] == {"version": "0 finished due", "text": "Control run: starting", "progress": 0.0}
    run.request_stop()
    assert ask(f"run={run.name}")[1] == {"version": "0 finished", "text": "", "progress": None}


@pytest.mark.parametrize("name", ["", "none", ".", "..", "../runs", "/etc", "a/b", "%2e%2e", "n" * 300])
def test_what_is_no_run_in_the_home_folder_is_not_answered(run: RunDirectory, ask: Ask, name: str):
    (run.path.parent.parent / "config.json").write_text("{}")
    assert ask(f"run={name}") == (404, "There is no such run, or it cannot be read.")


def test_a_run_that_cannot_be_read_is_not_answered(run: RunDirectory, ask: Ask):
    (run.path / "status.json").mkdir()
    assert ask(f"run={run.name}")[0] == 404


@pytest.mark.parametrize("config", [3, {"unknown": 1}, {"steps": -1}])
def test_a_run_with_a_damaged_configuration_is_not_answered(run: RunDirectory, ask: Ask, config: object):
    run.write_status(by_me(run, state="running", message="Step 1 of 2", step=1))
    (run.path / "config.json").write_text(json.dumps({"config": config}))
    assert ask(f"run={run.name}")[0] == 404
    assert ask("all")[0] == 200


def test_all_that_goes_on_is_told_in_lines(run: RunDirectory, ask: Ask):
    assert ask("all")[1]["text"] == f"{run.name}: starting"
    run.write_status(by_me(run, state="running", message="Step 1 of 2", step=1))
    assert ask("all")[1] == {"version": "", "text": f"{run.name}: Step 1 of 2", "progress": None}
    run.write_status(by_me(run, state="finished", message="Finished", step=2))
    assert ask("all")[1]["text"] == f"{run.name}: Control run: starting"
    run.request_stop()
    assert ask("all")[1]["text"] == ""


def test_what_waits_in_the_queue_changes_the_version(line: Line, ask: Ask):
    nothing = ask("all")[1]["version"]
    first = line.submit("first", 60.0)
    wait(lambda: queue.place(first.path) == 0)
    one = ask("all")[1]["version"]
    second = line.job("second")
    queue.submit(second.path, "nap", "cpu")
    two = ask("all")[1]["version"]
    queue.cancel(second.path)
    assert len({nothing, one, two}) == 3
    assert ask("all")[1]["version"] == one


def test_a_queue_that_cannot_be_read_changes_the_version(run: RunDirectory, ask: Ask):
    before = ask("all")
    (run.path.parent.parent / "queue.sqlite3").write_bytes(b"no database")
    assert ask("all")[0] == 200
    assert ask("all") != before


def test_there_is_an_address_only_where_the_server_answers(run: RunDirectory, tmp_path: Path):
    assert updates.run_address(run) == ""
    assert not updates.is_served()
    route = updates.route()
    assert updates.run_address(run) == f"updates?run={run.name}"
    assert updates.is_served()
    assert route.path == "/updates"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.json").write_text("{}")
    assert updates.run_address(RunDirectory(elsewhere)) == ""


def test_an_answer_is_held_back_until_there_changes_the_version(run: RunDirectory, ask: Ask):
    begun = time.monotonic()
    assert ask(f"run={run.name}&seen=0+starting&hold=0.6")[1]["version"] == "0 starting"
    assert 0.6 <= time.monotonic() - begun < 5
    threading.Timer(0.3, lambda: run.write_status(by_me(run, state="running", message="Step 0 of 2"))).start()
    begun = time.monotonic()
    assert ask(f"run={run.name}&seen=0+starting&hold=9")[1]["version"] == "0 running"
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("hold", ["", "-1", "nan", "soon", "0"])
def test_who_asks_for_no_time_is_answered_at_once(run: RunDirectory, ask: Ask, hold: str):
    begun = time.monotonic()
    assert ask(f"run={run.name}&seen=0+starting&hold={hold}")[0] == 200
    assert time.monotonic() - begun < 5


def test_everybody_who_asks_at_once_gets_one_answer(run: RunDirectory, ask: Ask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(updates, "_CACHE_RUN", 60.0)
    before = ask(f"run={run.name}")
    (run.path / "snapshots").mkdir()
    (run.path / "snapshots" / "000000.safetensors").touch()
    assert ask(f"run={run.name}") == before
    monkeypatch.setattr(updates, "_CACHE_RUN", 0.0)
    assert ask(f"run={run.name}") != before


def by_me(run: RunDirectory, **fields: Any) -> JobStatus:
    """A status as this process would write it as the run's worker."""
    return JobStatus(**fields, **by_this_process(run), heartbeat=time.time())
