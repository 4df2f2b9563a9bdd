"""`queue` as a user calls it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.testing

from analysis.cli import app
from analysis.errors import ConfigError, RunError
from analysis.jobs import queue, queue_rules, queue_store
from tests.jobs.queue_line import Line, opened, stand_in, wait

runner = typer.testing.CliRunner()


@pytest.fixture
def line(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(queue_rules, "command", stand_in)
    yield from opened(empty_home)


def call(*arguments: str) -> typer.testing.Result:
    return runner.invoke(app, ["queue", *arguments], catch_exceptions=False)


def test_an_empty_queue_is_told_and_leaves_no_file(empty_home: Path):
    assert "nothing is queued" in call().stdout
    assert list(empty_home.iterdir()) == []


def test_it_lists_and_cancels(line: Line):
    first, second = line.submit("first", 60.0), line.submit("second")
    wait(lambda: queue.place(first.path) == 0)
    rows = json.loads(call("--json").stdout.splitlines()[-1])["queue"]
    assert [(row["name"], row["place"], row["state"], row["device"]) for row in rows] == [
        ("first", 0, "running", "cpu"),
        ("second", 1, "queued", "cpu"),
    ]
    shown = call().stdout
    assert "at work" in shown
    assert "second" in shown
    assert "taken out of the queue" in call("--cancel", "second").stderr
    assert second.status().state == "stopped"
    assert "stops after its current step" in call("--cancel", str(first.path)).stderr
    wait(lambda: not queue.entries())
    assert first.status().state == "stopped"
    with pytest.raises(RunError, match="“first” is not in the queue"):
        call("--cancel", "first")
    with pytest.raises(ConfigError, match="not both"):
        call("--cancel", "first", "--rebuild")


def test_it_starts_what_waits_for_nobody(line: Line, monkeypatch: pytest.MonkeyPatch):
    start = queue_rules._start
    monkeypatch.setattr(queue_rules, "_start", lambda device: None)
    job = line.submit("left behind")
    monkeypatch.setattr(queue_rules, "_start", start)
    call()
    wait(lambda: not queue.entries())
    assert job.status().state == "finished"


def test_it_makes_a_damaged_queue_anew(line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue_rules, "_start", lambda device: None)
    line.submit("first")
    for file in line.home.glob("queue.sqlite3*"):
        file.write_bytes(b"no database" * 1000)
    with pytest.raises(RunError, match="damaged"):
        call()
    done = call("--rebuild", "--json")
    assert ".damaged" in "".join(done.stderr.split())
    assert [row["name"] for row in json.loads(done.stdout.splitlines()[-1])["queue"]] == ["first"]
    assert queue_store.database().exists()
