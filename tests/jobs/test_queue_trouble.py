"""A queue whose database is damaged, read-only, locked or on a full disk; ids used again, reboots, clocks that jump."""

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import worker
from analysis.errors import RunError, StoppedError
from analysis.jobs import Job, JobStatus, processes, queue, queue_rules, queue_store
from analysis.jobs.job import by_this_process
from tests.jobs.queue_line import ENVIRONMENT, ROOT, Line, opened, seen, stand_in, wait

_START = queue_rules._start


@pytest.fixture
def line(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """No worker comes by itself."""
    monkeypatch.setattr(queue_rules, "_start", lambda device: None)
    yield from opened(empty_home)


@pytest.fixture
def with_workers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def allow() -> None:
        monkeypatch.setattr(queue_rules, "_start", _START)
        monkeypatch.setattr(queue_rules, "command", stand_in)

    return allow


def change(text: str, *values: object) -> None:
    with queue_store.writing() as connection:
        connection.execute(text, values)


def at_work(line: Line, name: str) -> None:
    """A job that this very process is at work on, as far as the queue and its status say."""
    job, me = line.submit(name), processes.current()
    with queue_store.writing() as connection:
        (entry,) = [one for one in queue_store.entries(connection) if one.path == job.path]
        assert queue_rules.begin(connection, entry, me)
    job.write_status(
        JobStatus(state="running", pid=me.pid, pid_started=me.started, boot=me.boot, host=me.host, device="cpu",
                  step=7, heartbeat=time.time())
    )  # fmt: skip


def test_a_damaged_database_is_told_and_made_anew(with_workers, line: Line):
    at_work(line, "first")
    for name in ("second", "third"):
        line.submit(name)
    path = queue_store.database()
    for file in line.home.glob("queue.sqlite3*"):
        file.write_bytes(b"this is no database, and long enough to be read as one" * 100)
    for call in (queue.entries, queue.waiting, lambda: queue.submit(line.job("fourth").path, "nap", "cpu")):
        with pytest.raises(RunError, match=r"damaged: `palimpsest queue --rebuild`"):
            call()
    queue.tend()  # only logs it
    status = line.job("fifth").status()
    assert status.state == "starting"
    aside = queue.rebuild()
    assert aside is not None
    assert aside.read_bytes().startswith(b"this is no database")
    assert [(entry.name, entry.place) for entry in queue.entries()] == [("first", 0), ("second", 1), ("third", 2)]
    assert path.exists()
    assert queue.rebuild() is not None  # harmless where nothing is damaged
    assert [entry.name for entry in queue.entries()] == ["first", "second", "third"]


def carry_out_control(line: Line, name: str) -> Path:
    """A run that has finished, and whose control this very process is at work on."""
    at_work(line, name)
    run = Job(line.home / "runs" / name)
    control = Job(run.path / "control")
    control.path.mkdir()
    status = run.stored()
    assert status is not None
    run.write_status(replace(status, state="finished", heartbeat=time.time() - 60))
    control.write_status(replace(status, device=""))  # a control is not in the queue itself
    return run.path


def test_a_run_whose_control_is_at_work_is_in_the_queue_made_anew(line: Line):
    run = carry_out_control(line, "first")
    line.submit("second")
    queue.rebuild()
    assert [(entry.path, entry.place) for entry in queue.entries()] == [(run, 0), (run.with_name("second"), 1)]
    assert queue.entries()[0].process == processes.current()
    control = Job(run / "control")
    status = control.stored()
    assert status is not None
    control.write_status(replace(status, state="finished"))
    queue.rebuild()
    assert [entry.name for entry in queue.entries()] == ["second"]


def test_a_control_on_another_machine_counts_while_its_heart_beats(line: Line):
    run = carry_out_control(line, "first")
    change("UPDATE jobs SET host = 'elsewhere' WHERE state = 'running'")
    control = Job(run / "control")
    status = control.stored()
    assert status is not None
    control.write_status(replace(status, host="elsewhere"))
    queue.tend()
    assert queue.place(run) == 0
    control.write_status(replace(status, host="elsewhere", heartbeat=time.time() - 60))
    queue.tend()
    assert queue.place(run) is None


def test_half_a_database(line: Line):
    line.submit("first")
    path = queue_store.database()
    content = path.read_bytes()
    for file in line.home.glob("queue.sqlite3-*"):
        file.unlink()
    path.write_bytes(content[: len(content) // 2 + 100])
    with pytest.raises(RunError, match=r"queue\.sqlite3 cannot be used"):
        queue.submit(line.job("second").path, "nap", "cpu")
    queue.rebuild()
    assert [entry.name for entry in queue.entries()] == ["first"]


def test_a_status_says_so_when_the_queue_cannot_be_read(line: Line):
    job = line.submit("first")
    for file in line.home.glob("queue.sqlite3*"):
        file.write_bytes(b"no database" * 1000)
    assert job.status().state == "queued"
    assert "damaged" in job.status().message


def test_a_read_only_queue(line: Line, monkeypatch: pytest.MonkeyPatch):
    """As a user who may not write there: root may write anywhere."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are private
        home = Path(folder) / "home"
        monkeypatch.setenv("PALIMPSEST_HOME", str(home))
        here = Line(home)
        here.submit("first")
        second = here.job("second")
        text = (
            "import os\nfrom pathlib import Path\nfrom analysis.jobs import queue\nfrom analysis.errors import RunError\n"
            "if os.getuid() == 0: os.setuid(65534)\n"
            "queue.tend()\n"
            f"try: queue.submit(Path({str(second.path)!r}), 'nap', 'cpu')\n"
            "except RunError as error: print(error)"
        )
        for path in (Path(folder), home, *home.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=ROOT, env={**ENVIRONMENT, "PALIMPSEST_HOME": str(home)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        for path in (Path(folder), home, *home.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        assert "Make the file and its folder writable" in done.stdout, done.stdout + done.stderr
        assert [entry.name for entry in queue.entries()] == ["first"]
        assert second.stored() is None


def test_a_locked_queue_is_waited_for_and_then_told(line: Line):
    first, second = line.submit("first"), line.job("second")
    other = sqlite3.connect(queue_store.database(), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    with pytest.raises(RunError, match="Another process is writing to it"), queue_store.writing(wait=0.2):
        pass
    assert 0.15 < time.monotonic() - begun < 3.0
    assert queue.place(first.path) == 1  # who only looks does not wait
    first.request_stop()
    queue.tend()  # would take it out, and leaves it at that
    other.execute("ROLLBACK")
    other.close()
    assert queue.submit(second.path, "nap", "cpu") == 1
    assert [entry.name for entry in queue.entries()] == ["second"]


def test_a_full_disk_leaves_what_was_queued(line: Line, monkeypatch: pytest.MonkeyPatch):
    line.submit("first")
    connect = queue_store._connect

    def full(path: Path | None, wait: float) -> sqlite3.Connection:
        connection = connect(path, wait)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(queue_store, "_connect", full)
    jobs = [line.job(f"{number}-{'long' * 40}") for number in range(40)]

    def fill() -> None:
        for job in jobs:
            queue.submit(job.path, "nap", "cpu")

    with pytest.raises(RunError, match="Free some disk space"):
        fill()
    entered = len(queue.entries())
    assert 1 <= entered < 40
    monkeypatch.undo()
    monkeypatch.setenv("PALIMPSEST_HOME", str(line.home))
    monkeypatch.setattr(queue_rules, "_start", lambda device: None)
    assert queue.submit(jobs[-1].path, "nap", "cpu") == entered + 1


def test_a_status_that_cannot_be_written_leaves_the_queue_as_it_was(line: Line, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    job = line.job("first")
    monkeypatch.setattr("analysis.paths.write_atomically", full)
    with pytest.raises(RunError, match="No space left on device"):
        queue.submit(job.path, "nap", "cpu")
    assert queue.entries() == []


@pytest.mark.parametrize(
    "was",
    [
        {"pid_started": 1.0},  # the id belongs to another process now
        {"boot": "the one before"},  # the machine was restarted
        {"pid": 2**22 + 1},  # nobody has it
    ],
)
def test_a_job_whose_process_is_gone_is_crashed_and_the_next_begins(line: Line, with_workers, was: dict):
    at_work(line, "first")
    second = line.submit("second")
    (name, value), first = *was.items(), line.home / "runs" / "first"
    change(f"UPDATE jobs SET {name} = ? WHERE state = 'running'", value)
    status = json.loads((first / "status.json").read_text())
    (first / "status.json").write_text(json.dumps(status | was))
    assert type(second)(first).status().state == "crashed"
    with_workers()
    queue.tend()
    wait(lambda: not queue.entries())
    assert second.status().state == "finished"
    written = type(second)(first).stored()
    assert written is not None
    assert (written.state, written.step) == ("crashed", 7)


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_the_clock_jumps_while_a_job_is_at_work(line: Line, monkeypatch: pytest.MonkeyPatch, jump: float):
    at_work(line, "first")
    second, now = line.submit("second"), time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    third = line.submit("third")
    queue.tend()
    assert [(entry.name, entry.place) for entry in queue.entries()] == [("first", 0), ("second", 1), ("third", 2)]
    assert type(second)(line.home / "runs" / "first").status().state == "running"
    assert [job.status().message for job in (second, third)] == ["1st in the queue", "2nd in the queue"]


def test_a_worker_on_another_machine_counts_while_its_heart_beats(line: Line):
    at_work(line, "first")
    change("UPDATE jobs SET host = 'elsewhere' WHERE state = 'running'")
    path = line.home / "runs" / "first" / "status.json"
    status = json.loads(path.read_text()) | {"host": "elsewhere"}
    path.write_text(json.dumps(status))
    queue.tend()
    assert queue.place(path.parent) == 0
    path.write_text(json.dumps(status | {"heartbeat": time.time() - 60}))
    queue.tend()
    assert queue.place(path.parent) is None


def test_a_queue_of_another_version_is_refused(line: Line):
    line.submit("first")
    other = sqlite3.connect(queue_store.database())
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(RunError, match="another version of Palimpsest"):
        queue.entries()


def test_a_worker_that_could_not_write_down_the_end_goes_on(line: Line, with_workers):
    """Its own row, left over from the job before, does not stop it."""
    at_work(line, "first")
    line.submit("second")
    claimed = worker.claim("cpu")
    assert claimed is not None
    assert (claimed.name, claimed.process) == ("second", processes.current())
    assert queue.place(line.home / "runs" / "first") is None
    assert not seen(type(line.job("other"))(claimed.path))


def test_a_job_that_ends_after_the_queue_was_made_anew_takes_out_itself_alone(line: Line):
    """Neither a row that has its old number now, nor nothing at all."""
    for _ in range(3):
        queue.cancel(line.submit("before").path)
        shutil.rmtree(line.home / "runs" / "before")
    at_work(line, "first")
    (old,) = queue.entries()
    line.submit("second")
    queue.rebuild()
    with queue_store.writing() as connection:  # as if numbers had begun at 1
        connection.execute("UPDATE jobs SET number = number + 100 WHERE state = 'running'")
        connection.execute("UPDATE jobs SET number = ? WHERE state = 'queued'", (old.number,))
    assert [entry.name for entry in queue.entries()] == ["first", "second"]
    worker._leave(old)
    assert [entry.name for entry in queue.entries()] == ["second"]
    worker._leave(old)
    assert [entry.name for entry in queue.entries()] == ["second"]


def test_numbers_never_come_again(line: Line):
    at_work(line, "first")
    line.submit("second")
    before = [entry.number for entry in queue.entries()]
    for _ in range(2):
        queue.rebuild()
        again = [entry.number for entry in queue.entries()]
        assert min(again) > max(before)
        before += again
    line.submit("third")
    assert max(entry.number for entry in queue.entries()) > max(before)


def test_a_turn_ends_in_a_queue_that_was_made_anew_meanwhile(line: Line):
    mine = line.job("mine")
    with queue.turn(mine.path, "run", "cpu", say=pytest.fail):
        mine.write_status(JobStatus(state="running", heartbeat=time.time(), **by_this_process(mine)))
        queue.rebuild()
        assert [(entry.name, entry.place) for entry in queue.entries()] == [("mine", 0)]
    assert queue.entries() == []


def test_a_wait_in_a_queue_that_was_made_anew_is_left_to_a_worker(line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue, "LOOK_EVERY", 0.01)
    at_work(line, "first")
    mine = line.job("mine")

    def make_anew(text: str) -> None:
        queue.rebuild()

    def wait_in_vain() -> None:
        with queue.turn(mine.path, "nap", "cpu", say=make_anew):
            pytest.fail("it has begun")

    with pytest.raises(StoppedError, match="“mine” no longer waits in this process"):
        wait_in_vain()
    assert [(entry.name, entry.place) for entry in queue.entries()] == [("first", 0), ("mine", 1)]
    assert mine.status().state == "queued"


def test_a_cancel_between_the_claim_and_the_start_is_heeded(line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "_print_to", lambda path: None)
    job = line.submit("first")
    claimed = worker.claim("cpu")
    assert claimed is not None
    assert queue.cancel(job.path)
    assert (job.status().state, job.status().message) == ("stopped", "Cancelled while it was queued.")
    worker._execute(claimed, {"nap": lambda path: pytest.fail("it has begun")})
    worker._leave(claimed)
    stored = job.stored()
    assert stored is not None
    assert (stored.state, stored.message) == ("stopped", "Cancelled while it was queued.")
    assert queue.entries() == []


def test_one_job_submitted_by_many_at_the_same_moment_is_entered_once(line: Line):
    job = line.job("first")
    text = (
        "import sys\nfrom pathlib import Path\nfrom analysis.jobs import queue, queue_rules\nfrom analysis.errors import RunError\n"
        "queue_rules._start = lambda device: None\n"
        f"try: queue.submit(Path({str(job.path)!r}), 'nap', 'cpu')\n"
        "except RunError as error: print(error)"
    )
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", text], cwd=ROOT, env={**ENVIRONMENT, "PALIMPSEST_HOME": str(line.home)},
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    said = sorted(process.communicate(timeout=60)[0].strip() for process in crowd)
    assert said == [""] + ["“first” is in the queue already."] * 3
    assert [entry.name for entry in queue.entries()] == ["first"]
    assert job.status().message == "1st in the queue"
