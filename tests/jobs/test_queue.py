"""The queue with real processes: order, one at a time, death of everybody concerned, and what the statuses say."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.errors import ConfigError, RunError
from analysis.jobs import JobStatus, processes, queue, queue_rules, queue_store
from tests.jobs.queue_line import ENVIRONMENT, ROOT, Line, opened, seen, stand_in, wait


@pytest.fixture
def line(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(queue_rules, "command", stand_in)
    yield from opened(empty_home)


def all_over() -> bool:
    return not queue.entries()


def script(text: str) -> subprocess.Popen:
    """A process of its own that uses the queue of this home with stand-in workers."""
    head = "from pathlib import Path; from analysis.jobs import memory_broker, queue, queue_rules\nfrom tests.jobs.queue_line import *\n"
    text = f"{head}queue_rules.command = stand_in\n{text}"
    return subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, env={**ENVIRONMENT, "PALIMPSEST_HOME": home()})


def home() -> str:
    return os.environ["PALIMPSEST_HOME"]


def test_first_come_first_served_one_at_a_time_each_in_a_fresh_process(line: Line):
    submitted = [line.submit(name, 0.1) for name in ("c", "a", "b")]
    wait(all_over)
    notes = [seen(job) for job in submitted]
    assert [job.status().state for job in submitted] == ["finished"] * 3
    assert notes[0]["ended"] <= notes[1]["begun"]
    assert notes[1]["ended"] <= notes[2]["begun"]
    assert len({note["pid"] for note in notes}) == 1  # one process, replaced by itself ...
    assert [note["left_over"] for note in notes] == [[], [], []]  # ... that keeps nothing
    assert not any(note["torch"] for note in notes)
    assert submitted[0].status().device == "cpu"
    wait(lambda: line.worker is None)
    wait(lambda: not Path(f"/proc/{notes[0]['pid']}").exists())  # no zombie either


def test_places_are_told_and_move_up(line: Line):
    first = line.submit("first", 60.0)
    others = [line.submit(name) for name in ("second", "third", "fourth")]
    wait(lambda: first.status().state == "running")
    assert [queue.place(job.path) for job in (first, *others)] == [0, 1, 2, 3]
    assert [job.status().state for job in others] == ["queued"] * 3
    assert all(job.status().active for job in others)
    assert [job.status().message for job in others] == ["1st in the queue", "2nd in the queue", "3rd in the queue"]
    assert [entry.name for entry in queue.waiting()] == ["second", "third", "fourth"]
    assert queue.cancel(others[0].path)
    assert others[0].status().state == "stopped"
    assert others[0].status().message == "Cancelled while it was queued."
    assert [queue.place(job.path) for job in (first, *others)] == [0, None, 1, 2]
    assert not queue.cancel(others[0].path)
    others[1].request_stop()  # what a page's “Stop” does
    assert others[1].status().state == "stopped"
    queue.tend()
    assert others[1].stored().state == "stopped"
    assert queue.cancel(first.path)
    wait(all_over)
    assert [job.status().state for job in (first, *others)] == ["stopped", "stopped", "stopped", "finished"]
    assert not any(seen(job) for job in others[:2])  # they never began


def test_a_stopped_job_is_submitted_again(line: Line):
    job = line.submit("again", 60.0)
    wait(lambda: job.status().state == "running")
    with pytest.raises(RunError, match=r"“again” is running already"):
        queue.submit(job.path, "nap", "cpu")
    queue.cancel(job.path)
    wait(all_over)
    (job.path / "job.json").write_text(json.dumps({"seconds": 0.0, "then": ""}))
    assert queue.submit(job.path, "nap", "cpu") == 1
    wait(all_over)
    assert job.status().state == "finished"
    assert seen(job)["times"] == 2


def test_a_job_is_in_the_queue_once(line: Line):
    line.submit("first", 60.0)
    waiting = line.submit("second")
    with pytest.raises(RunError, match="“second” is in the queue already"):
        queue.submit(waiting.path, "nap", "cpu")
    assert [entry.name for entry in queue.entries()] == ["first", "second"]


@pytest.mark.parametrize(
    ("then", "state", "says"),
    [
        ("raise", "failed", "A bug: ZeroDivisionError: a bug"),
        ("refuse", "failed", "It cannot be done."),
        ("die", "crashed", "ended without a message"),
    ],
)
def test_a_job_that_fails_does_not_stop_the_others(line: Line, then: str, state: str, says: str):
    bad, good = line.submit("bad", then=then), line.submit("good")

    def over() -> bool:
        queue.tend()
        return all_over()

    wait(over)
    assert (bad.status().state, good.status().state) == (state, "finished")
    assert says in bad.status().message


def test_a_killed_worker_is_noticed_and_replaced(line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue_rules, "_RESTART_AFTER", 0.0)
    first, second = line.submit("first", 60.0), line.submit("second")
    wait(lambda: first.status().state == "running")
    os.kill(seen(first)["pid"], signal.SIGKILL)
    wait(lambda: not Path(f"/proc/{seen(first)['pid']}").exists())
    assert first.status().state == "crashed"  # at once, whoever looks
    assert queue.place(second.path) == 1
    queue.tend()
    wait(all_over)
    assert (first.status().state, second.status().state) == ("crashed", "finished")
    assert seen(second)["pid"] != seen(first)["pid"]


def test_a_worker_that_cannot_start_is_not_started_without_end(line: Line, monkeypatch: pytest.MonkeyPatch):
    started: list[str] = []

    def broken(device: str) -> list[str]:
        started.append(device)
        return [sys.executable, "-c", "import no_such_module"]

    monkeypatch.setattr(queue_rules, "command", broken)
    begun = time.monotonic()
    job = line.submit("waiting")
    wait(lambda: (worker := line.worker) is None or not worker.is_alive())
    for _ in range(20):
        queue.tend()
    assert 1 <= len(started) <= 1 + (time.monotonic() - begun) / queue_rules._RESTART_AFTER
    assert job.status().message == "1st in the queue"
    assert "no_such_module" in (line.home / "worker-cpu.log").read_text()


def test_a_worker_that_has_failed_before_it_is_looked_up_counts(line: Line, monkeypatch: pytest.MonkeyPatch):
    started: list[str] = []
    find = processes.find
    monkeypatch.setattr(queue_rules, "command", lambda device: [sys.executable, "-c", f"'{started.append(device)}'"])
    monkeypatch.setattr(processes, "find", lambda pid: find(pid) if pid == os.getpid() else None)
    begun = time.monotonic()
    line.submit("waiting")
    for _ in range(5):
        queue.tend()
    assert 1 <= len(started) <= 1 + (time.monotonic() - begun) / queue_rules._RESTART_AFTER


def test_workers_started_at_the_same_moment_share_the_jobs(line: Line, monkeypatch: pytest.MonkeyPatch):
    """Every job is carried out once, and no two at the same time."""
    monkeypatch.setattr(queue_rules, "_start", lambda device: None)
    submitted = [line.submit(f"{number}", 0.05) for number in range(5)]
    crowd = [
        subprocess.Popen(stand_in("cpu"), cwd=ROOT, env={**ENVIRONMENT, "PALIMPSEST_HOME": home()}) for _ in range(5)
    ]
    assert [process.wait(timeout=60) for process in crowd] == [0] * 5
    notes = [seen(job) for job in submitted]
    assert [note["times"] for note in notes] == [1] * 5
    assert all(before["ended"] <= after["begun"] for before, after in itertools.pairwise(notes))


def test_many_submit_at_the_same_moment_into_a_queue_that_is_not_there_yet(line: Line):
    text = "for i in range(4): Line(Path({home!r})).submit(f'{who}-{{i}}')"
    crowd = [script(text.format(home=home(), who=who)) for who in "abcd"]
    assert [process.wait(timeout=60) for process in crowd] == [0] * 4
    wait(all_over)
    folders = list((line.home / "runs").iterdir())
    notes = sorted((json.loads((folder / "seen.json").read_text()) for folder in folders), key=lambda one: one["begun"])
    assert len(notes) == 16
    assert {note["times"] for note in notes} == {1}
    assert all(before["ended"] <= after["begun"] for before, after in itertools.pairwise(notes))


def test_jobs_outlive_a_killed_dashboard_and_end_by_themselves(line: Line):
    starter = script(f"[Line(Path({home()!r})).submit(name, 1.0) for name in 'ab']\nimport time; time.sleep(60)")
    wait(lambda: len(queue.entries()) == 2 and queue.entries()[0].state == "running")
    starter.kill()
    starter.wait()
    pid = queue.entries()[0].process.pid
    assert os.getsid(pid) == pid
    wait(all_over)
    wait(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())
    assert [json.loads((line.home / "runs" / name / "seen.json").read_text())["times"] for name in "ab"] == [1, 1]


def test_a_folder_that_goes_while_it_is_queued(line: Line):
    first = line.submit("first", 60.0)
    gone, moved, last = (line.submit(name) for name in ("gone", "moved", "last"))
    wait(lambda: first.status().state == "running")
    shutil.rmtree(gone.path)
    to = moved.path.rename(line.home / "runs" / "elsewhere")
    queue.tend()
    assert [entry.name for entry in queue.waiting()] == ["last"]
    there = type(moved)(to)
    written = json.loads((to / "status.json").read_text())
    (to / "status.json").write_text(json.dumps(written | {"heartbeat": time.time() - 60}))
    assert there.status().state == "stopped"
    assert "not in the queue any more" in there.status().message
    assert queue.submit(to, "nap", "cpu") == 2
    queue.cancel(first.path)
    wait(all_over)
    assert (last.status().state, there.status().state) == ("finished", "finished")


def test_a_job_that_was_created_but_never_submitted(line: Line):
    job = line.job("forgotten")
    assert job.status().state == "starting"
    old = time.time() - 3600
    os.utime(job.path, (old, old))
    assert job.status().state == "crashed"
    assert queue.submit(job.path, "nap", "cpu") == 1
    wait(all_over)
    assert job.status().state == "finished"


def test_a_device_that_does_not_exist_is_refused(line: Line):
    job = line.job("lost")
    for device in ("cuda:99", "warp"):
        with pytest.raises(ConfigError, match=device):
            queue.submit(job.path, "nap", device)
    assert not (job.path / "status.json").exists()
    assert queue.entries() == []


def test_auto_is_the_device_it_will_run_on():
    import torch

    from analysis.models import pick_device

    resolved = queue.device_of("auto")
    assert torch.device(resolved).type == torch.device(pick_device("auto")).type
    assert queue.device_of("cpu") == "cpu"


def test_looking_after_a_long_queue_is_cheap(line: Line):
    """With one at work and fifty waiting it takes less than eight times as long as with one (best of twenty)."""

    def seconds() -> float:
        times = []
        for _ in range(20):
            begun = time.thread_time()
            queue.tend()
            times.append(time.thread_time() - begun)
        return min(times)

    first = line.submit("first", 60.0)
    line.submit("waiting")
    wait(lambda: first.status().state == "running")
    short = seconds()
    for number in range(49):
        line.submit(f"{number}")
    assert seconds() < 8 * short


def test_torch_is_not_imported_by_a_worker_before_it_has_a_job(empty_home: Path):
    text = "import sys, analysis.worker as w; code = w.serve('cpu', w.KINDS); print(code, 'torch' in sys.modules, file=sys.__stderr__)"
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, env={**ENVIRONMENT, "PALIMPSEST_HOME": home()}, timeout=60, check=True
    )
    assert done.returncode == 0
    assert (empty_home / "worker-cpu.log").read_text().strip() == "0 False"


def test_ended_rows_do_not_pile_up(line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue_rules, "_KEPT", 3)
    monkeypatch.setattr(queue_rules, "_start", lambda device: None)
    for number in range(8):
        queue.cancel(line.submit(f"{number}").path)
    with queue_store.reading() as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone()[0] == 3


def test_an_old_status_is_still_read(line: Line):
    job = line.job("old")
    old = {"state": "finished", "message": "Finished", "step": 3, "snapshots": 2, "pid": 1, "pid_started": 1.7e9}
    (job.path / "status.json").write_text(json.dumps(old | {"host": "elsewhere", "heartbeat": 1.0, "seconds": 2.0}))
    assert job.status() == JobStatus(**old, host="elsewhere", heartbeat=1.0, seconds=2.0)
