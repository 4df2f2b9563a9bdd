"""A worker that meets a job which another process is carrying out: what that one writes stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis import worker
from analysis.errors import BusyError, RunError
from analysis.jobs import Job, JobStatus, lock, processes, queue, queue_rules
from analysis.jobs.queue_store import Entry
from tests.jobs.queue_line import Line, opened


@pytest.fixture
def line(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """No worker comes by itself, and nothing that this one prints goes to a file."""
    monkeypatch.setattr(queue_rules, "_start", lambda device: None)
    monkeypatch.setattr(worker, "_print_to", lambda path: None)
    monkeypatch.setattr(worker, "_LOCK_WAIT", 0.05)
    yield from opened(empty_home)


@pytest.fixture
def claimed(line: Line) -> Entry:
    line.submit("first")
    entry = worker.claim("cpu")
    assert entry is not None
    return entry


def carried_out_elsewhere(job: Job) -> bytes:
    """What another process says of the job."""
    me = processes.current()
    job.write_status(JobStatus(state="running", message="Step 3 of 9", step=3, pid=me.pid, pid_started=me.started))
    return (job.path / "status.json").read_bytes()


@pytest.mark.parametrize("stop", [False, True])
def test_a_job_whose_lock_another_process_holds_is_left_alone(claimed: Entry, stop: bool):
    job = Job(claimed.path)
    said = carried_out_elsewhere(job)
    if stop:  # this is for the other process
        job.request_stop()
    with lock.held(job.path):
        worker._execute(claimed, {"nap": lambda path: pytest.fail("it has begun")})
        worker._leave(claimed)
    assert (job.path / "status.json").read_bytes() == said
    assert job.stop_requested() == stop
    assert queue.entries() == []


def test_a_lock_that_is_taken_at_the_last_moment(claimed: Entry):
    job, said = Job(claimed.path), []

    def begin(path: Path) -> None:
        said.append(carried_out_elsewhere(job))
        raise BusyError("It is being carried out by another process.")

    worker._execute(claimed, {"nap": begin})
    assert [(job.path / "status.json").read_bytes()] == said


def test_a_lock_that_is_let_go_soon_is_waited_for(claimed: Entry, monkeypatch: pytest.MonkeyPatch):
    """Whoever has just queued a run still changes its number of steps."""
    monkeypatch.setattr(worker, "_LOCK_WAIT", 60.0)
    begun, release = [], lock.held(claimed.path)
    release.__enter__()
    monkeypatch.setattr("analysis.jobs.lock.time.sleep", lambda seconds: release.__exit__(None, None, None))
    worker._execute(claimed, {"nap": begun.append})
    assert begun == [claimed.path]
    stored = Job(claimed.path).stored()
    assert stored is not None
    assert (stored.state, stored.pid) == ("starting", processes.current().pid)


def test_a_job_that_fails_by_itself_still_says_why(claimed: Entry):
    def refuse(path: Path) -> None:
        raise RunError("It cannot be done.")

    worker._execute(claimed, {"nap": refuse})
    stored = Job(claimed.path).stored()
    assert stored is not None
    assert (stored.state, stored.message) == ("failed", "It cannot be done.")
