"""The rules of one device's queue: how a job enters, starts, ends and is cancelled, and when a worker is started.

Every function here takes the connection of a transaction opened by `changing`, which has already removed the jobs of dead
processes. A job's status is written before the transaction ends, so that no other change of the queue can come in between.
"""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from sqlite3 import Connection

from analysis import paths
from analysis.errors import RunError
from analysis.jobs import Job, JobStatus, layout, processes, queue_store
from analysis.jobs import job as jobs
from analysis.jobs.job import CANCELLED
from analysis.jobs.processes import Process
from analysis.jobs.queue_store import BUSY, Entry, State

__all__ = [
    "begin",
    "cancel",
    "changing",
    "command",
    "end",
    "ensure_worker",
    "enter",
    "is_served",
    "needs_change",
    "register",
    "worker_of",
    "write_queued",
]

_KEPT = 200
"""How many rows of ended jobs stay in the database."""
_RESTART_AFTER = 5.0
"""Seconds before a dead worker is replaced, so that a worker that cannot start is not restarted in a tight loop."""
_log = logging.getLogger(__name__)


@contextmanager
def changing(device: str, wait: float = BUSY) -> Iterator[Connection]:
    """Open a transaction on a device's queue, after removing jobs whose process died and jobs that will never start.

    Raises:
        RunError: the queue, or the status of a job in it, cannot be written.
    """
    with queue_store.writing(wait) as connection:
        for entry in queue_store.entries(connection, device):
            if entry.state == "running" and _is_dead(entry):
                _crash(connection, entry)
            elif reason := _reason_to_remove(entry):
                cancel(connection, entry, reason)
        yield connection


def needs_change(line: Sequence[Entry], worker: Process | None) -> bool:
    """Whether `changing` or `ensure_worker` has something to do: a dead process, a job that will never start, no worker."""
    stale = any(_is_dead(entry) if entry.state == "running" else _reason_to_remove(entry) for entry in line)
    return stale or (_has_work(line) and not is_served(line, worker))


def enter(
    connection: Connection, job: Job, kind: str, device: str, owner: str, *, waits: Process | None = None
) -> Entry:
    """Put a job at the end of its device's queue.

    Args:
        connection: The transaction.
        job: The job.
        kind: "run" or "removal".
        device: Its name from `queue.device_of`.
        owner: Who submits it.
        waits: The process that waits with the job and will execute it; None leaves it to a worker.

    Raises:
        RunError: the job is in the queue already.
    """
    if queue_store.find(connection, job.path) is not None:
        raise RunError(f"“{job.name}” is in the queue already.")
    own = _columns(waits) if waits else (None, None, None, None)
    row = connection.execute(
        "INSERT INTO jobs (path, kind, device, owner, state, foreground, submitted, pid, pid_started, boot, host) "
        "VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?)",
        (str(paths.real(job.path)), kind, device, owner, waits is not None, time.time(), *own),
    )
    return next(one for one in queue_store.entries(connection, device) if one.number == row.lastrowid)


def begin(connection: Connection, entry: Entry, process: Process, *, now: bool = False) -> bool:
    """Mark a job as run by `process` if it is first and the device is free; with `now` in any case. Returns whether it was."""
    line = queue_store.entries(connection, entry.device)
    if not now and (line[0].state == "running" or line[0].number != entry.number):
        return False
    connection.execute(
        "UPDATE jobs SET state = 'running', started = ?, pid = ?, pid_started = ?, boot = ?, host = ? WHERE number = ?",
        (time.time(), *_columns(process), entry.number),
    )
    return True


def end(connection: Connection, entry: Entry, state: State = "done") -> bool:
    """Remove a job from the queue; False if it was not there any more.

    `queue.rebuild` gives jobs new numbers. A job is therefore identified by its folder together with its number or the
    process that runs it.
    """
    own = _columns(entry.process) if entry.process else (None, None, None, None)
    row = connection.execute(
        "UPDATE jobs SET state = ?, ended = ? WHERE path = ? AND state IN ('queued', 'running') "
        "AND (number = ? OR (pid = ? AND pid_started = ? AND boot = ? AND host = ?))",
        (state, time.time(), str(entry.path), entry.number, *own),
    )
    connection.execute("DELETE FROM jobs WHERE state IN ('done', 'cancelled') AND number <= ?", (entry.number - _KEPT,))
    return row.rowcount > 0


def cancel(connection: Connection, entry: Entry, reason: str = CANCELLED) -> None:
    """Remove a queued job from the queue and write the reason to its status."""
    if not end(connection, entry, "cancelled"):
        return
    job = Job(entry.path)
    before = _stored(job)
    if before is not None and before.state == "queued":
        _write(job, replace(before, state="stopped", message=reason))


def write_queued(job: Job, before: JobStatus, device: str) -> None:
    """Write a job's status as queued; the step and snapshots it has reached are kept."""
    no_process = {"pid": None, "pid_started": None, "boot": "", "host": ""}
    _write(job, replace(before, state="queued", message="Queued", heartbeat=time.time(), device=device, **no_process))


def worker_of(connection: Connection, device: str) -> Process | None:
    """The process that is registered as the device's worker, whether or not it is alive."""
    row = connection.execute("SELECT * FROM workers WHERE device = ?", (device,)).fetchone()
    return None if row is None else queue_store.process_of(row)


def is_served(line: Sequence[Entry], worker: Process | None) -> bool:
    """Whether the registered worker of a queue is alive; for one on another machine the heartbeat of its job decides."""
    if worker is None or worker.is_here:
        return worker is not None and worker.is_alive()
    return any(entry.process == worker and not _is_dead(entry) for entry in line)


def register(connection: Connection, device: str, worker: Process) -> None:
    """Register `worker` as the device's worker."""
    connection.execute(
        "INSERT OR REPLACE INTO workers (device, registered, pid, pid_started, boot, host) VALUES (?, ?, ?, ?, ?, ?)",
        (device, time.time(), *_columns(worker)),
    )


def ensure_worker(connection: Connection, device: str, *, at_once: bool = False) -> None:
    """Start a worker if jobs wait for one and none is alive.

    Args:
        connection: The transaction.
        device: The device.
        at_once: Start it even if the last worker died a moment ago.
    """
    line, worker = queue_store.entries(connection, device), worker_of(connection, device)
    if not _has_work(line) or is_served(line, worker):
        return
    row = connection.execute("SELECT registered FROM workers WHERE device = ?", (device,)).fetchone()
    if not at_once and row is not None and abs(time.time() - row["registered"]) < _RESTART_AFTER:
        return
    started = _start(device)
    if started is not None:
        register(connection, device, started)


def command(device: str) -> list[str]:
    """The command line that starts a worker."""
    return [sys.executable, "-m", "analysis.worker", "--device", device]


def _start(device: str) -> Process | None:
    """Start a worker in its own session, so that it outlives this process; its output goes to its log file."""
    try:
        with (paths.home() / f"worker-{device.replace(':', '-')}.log").open("wb") as log:
            process = subprocess.Popen(
                command(device),
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise RunError(f"No worker for {device} could be started ({error}). Free some memory or disk space.") from error
    # the parent has to wait for the child, or it stays a zombie
    threading.Thread(target=process.wait, name=f"waits for worker {process.pid}", daemon=True).start()
    # a worker that has already failed is registered too, or it would be restarted in a tight loop
    return processes.find(process.pid) or processes.ended(process.pid)


def _has_work(line: Sequence[Entry]) -> bool:
    return any(entry.state == "queued" and not entry.foreground for entry in line)


def _crash(connection: Connection, entry: Entry) -> None:
    end(connection, entry)
    job = Job(entry.path)
    before = _stored(job)
    if before is not None and before.active:
        message = f"The process that ran it ended without a message. See {job.path / 'worker.log'}. It can be resumed."
        _write(job, replace(before, state="crashed", message=message))


def _is_dead(entry: Entry) -> bool:
    """Whether the process of a running job is gone; on another machine the job's heartbeat decides."""
    if entry.process is None or entry.process.is_here:
        return entry.process is None or not entry.process.is_alive()
    try:
        stored = Job(entry.path).stored_at_work()
    except (RunError, OSError):
        return True
    return stored is None or not jobs.is_alive(stored)


def _reason_to_remove(entry: Entry) -> str:
    """Why a queued job will never start and has to leave the queue; empty if it can stay."""
    if entry.state != "queued":
        return ""
    if (entry.path / layout.STOP).exists():
        return CANCELLED
    if entry.foreground:
        return "The command line that waited with it has ended." if _is_dead(entry) else ""
    return "" if entry.path.is_dir() else "Its folder is gone."


def _stored(job: Job) -> JobStatus | None:
    try:
        return job.stored()
    except (RunError, OSError):
        return None


def _write(job: Job, status: JobStatus) -> None:
    try:
        job.write_status(status)
    except FileNotFoundError:
        _log.warning("%s is gone: its status cannot be written", job.path)
    except OSError as error:
        advice = "Free some disk space, or make the folder writable."
        raise RunError(f"The status of {job.path} cannot be written ({error.strerror}). {advice}") from error


def _columns(process: Process) -> tuple[int, float, str, str]:
    return process.pid, process.started, process.boot, process.host
