"""Command lines, which work in their own process, in the line with everybody else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.errors import RunError, StoppedError
from analysis.jobs import queue, queue_rules
from tests.jobs.queue_line import ENVIRONMENT, ROOT, Line, opened, seen, stand_in, wait


@pytest.fixture
def line(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(queue_rules, "command", stand_in)
    monkeypatch.setattr(queue, "LOOK_EVERY", 0.05)
    yield from opened(empty_home)


def command_line(home: Path, name: str) -> subprocess.Popen:
    """A process that waits for its turn, and then holds the device until it is killed."""
    text = (
        "import time\nfrom pathlib import Path\nfrom analysis.jobs import queue\n"
        f"with queue.turn(Path({str(home / name)!r}), 'run', 'cpu', say=print): time.sleep(60)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, env={**ENVIRONMENT, "PALIMPSEST_HOME": str(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_an_idle_device_is_held_at_once_and_others_wait(line: Line, tmp_path: Path):
    said: list[str] = []
    with queue.turn(tmp_path / "mine", "removal", "cpu", say=said.append, owner="me"):
        (entry,) = queue.entries()
        assert (entry.name, entry.place, entry.foreground, entry.owner) == ("mine", 0, True, "me")
        later = line.submit("later")
        wait(lambda: line.worker is not None)
        with pytest.raises(TimeoutError):
            wait(lambda: seen(later), 1.5)
        assert queue.place(later.path) == 1
    wait(lambda: not queue.entries())
    assert later.status().state == "finished"
    assert said == []


def test_it_waits_behind_those_who_came_first(line: Line, tmp_path: Path):
    jobs = [line.submit(name, 0.3) for name in "ab"]
    said: list[str] = []
    with queue.turn(tmp_path / "mine", "run", "cpu", say=said.append):
        assert [job.status().state for job in jobs] == ["finished"] * 2
    assert said[-1] == "Waiting for cpu"
    assert set(said) <= {"Waiting for cpu", "Waiting for cpu, 1 before it", "Waiting for cpu, 2 before it"}


def test_now_does_not_wait_and_is_seen(line: Line, tmp_path: Path):
    first = line.submit("first", 60.0)
    wait(lambda: first.status().state == "running")
    with queue.turn(tmp_path / "mine", "run", "cpu", say=pytest.fail, now=True):
        assert sorted((entry.name, entry.place) for entry in queue.entries()) == [("first", 0), ("mine", 0)]
    assert [entry.name for entry in queue.entries()] == ["first"]


def test_a_failure_gives_the_device_back(line: Line, tmp_path: Path):
    def fail() -> None:
        with queue.turn(tmp_path / "mine", "run", "cpu", say=pytest.fail):
            raise RunError("no")

    for _ in range(2):
        with pytest.raises(RunError, match=r"^no$"):
            fail()
    assert queue.entries() == []


def test_it_is_cancelled_while_it_waits(line: Line):
    first, mine = line.submit("first", 60.0), line.job("mine")

    def wait_in_vain() -> None:
        with queue.turn(mine.path, "run", "cpu", say=lambda text: mine.request_stop()):
            pytest.fail("it has begun")

    with pytest.raises(StoppedError, match="“mine” was cancelled while it was queued"):
        wait_in_vain()
    assert mine.status().state == "stopped"
    assert [entry.name for entry in queue.entries()] == [first.name]


def test_an_interrupted_wait_leaves_the_line(line: Line):
    line.submit("first", 60.0)
    mine = line.job("mine")

    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), queue.turn(mine.path, "run", "cpu", say=interrupt):
        pytest.fail("it has begun")
    assert mine.status().state == "stopped"
    assert [entry.name for entry in queue.entries()] == ["first"]


@pytest.mark.parametrize("busy", [True, False], ids=["while it waits", "while it holds the device"])
def test_a_killed_command_line_holds_nobody_up(line: Line, busy: bool):
    first = line.submit("first", 60.0) if busy else None
    other = command_line(line.home, "killed")
    wait(lambda: any(entry.name == "killed" and (busy or entry.place == 0) for entry in queue.entries()))
    last = line.submit("last")
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    if first is not None:
        wait(lambda: first.status().state == "running")
        queue.cancel(first.path)
    wait(lambda: not queue.entries())
    assert last.status().state == "finished"


def test_the_queue_does_not_pass_a_command_line_that_came_first(line: Line):
    first = line.submit("first", 1.0)
    wait(lambda: first.status().state == "running")
    other = command_line(line.home, "second")
    wait(lambda: queue.place(line.home / "second") == 1)
    last = line.submit("last")
    wait(lambda: queue.place(line.home / "second") == 0)
    assert queue.place(last.path) == 1
    other.kill()
    other.wait()
    wait(lambda: not queue.entries())
    assert last.status().state == "finished"
