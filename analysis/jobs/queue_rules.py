"""What happens in a device's line, inside a transaction of the queue's database: who enters, begins, ends, serves.

Every function here takes the connection of such a transaction (`changing`), in which dead processes have been noticed
already. A job's status is written before the transaction ends, so that no other change of the queue comes in between.
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
from analysis.jobs import Job, JobStatus, processes, queue_store
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
"""Rows of ended jobs that stay in the database."""
_RESTART_AFTER = 5.0
"""Seconds until a worker that died is replaced, so that one that cannot start is not started without end."""
_log = logging.getLogger(__name__)


@contextmanager
def changing(device: str, wait: float = BUSY) -> Iterator[Connection]:
    """A transaction on a device's line, from which jobs have been taken that are over or will never begin.

    Raises:
        RunError: the queue, or the status of a job in it, cannot be written.
    """
    with queue_store.writing(wait) as connection:
        for entry in queue_store.entries(connection, device):
            if entry.state == "running" and _is_dead(entry):
                _crash(connection, entry)
            elif reason := _will_not_begin(entry):
                cancel(connection, entry, reason)
        yield connection


def needs_change(line: Sequence[Entry], worker: Process | None) -> bool:
    """Whether a device's line is not as it should be: somebody died, a job will never begin, nobody serves it."""
    odd = any(_is_dead(entry) if entry.state == "running" else _will_not_begin(entry) for entry in line)
    return odd or (_has_work(line) and not is_served(line, worker))


def enter(
    connection: Connection, job: Job, kind: str, device: str, owner: str, *, waits: Process | None = None
) -> Entry:
    """Put a job at the end of the line.

    Args:
        connection: Of the transaction.
        job: The job.
        kind: "run" or "removal".
        device: As `device_of` names it.
        owner: Who asks for it.
        waits: The process that waits with it and will carry it out itself; None leaves it to a worker.

    Raises:
        RunError: it is in a line already.
    """
    if queue_store.find(connection, job.path) is not None:
        raise RunError(f"“{job.name}” is in the queue already.")
    who = _who(waits) if waits else (None, None, None, None)
    row = connection.execute(
        "INSERT INTO jobs (path, kind, device, owner, state, foreground, submitted, pid, pid_started, boot, host) "
        "VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?)",
        (str(paths.real(job.path)), kind, device, owner, waits is not None, time.time(), *who),
    )
    return next(one for one in queue_store.entries(connection, device) if one.number == row.lastrowid)


def begin(connection: Connection, entry: Entry, process: Process, *, now: bool = False) -> bool:
    """Let `process` begin with a job, if it is the first in line and nothing is at work there; with `now` in any case."""
    line = queue_store.entries(connection, entry.device)
    if not now and (line[0].state == "running" or line[0].number != entry.number):
        return False
    connection.execute(
        "UPDATE jobs SET state = 'running', started = ?, pid = ?, pid_started = ?, boot = ?, host = ? WHERE number = ?",
        (time.time(), *_who(process), entry.number),
    )
    return True


def end(connection: Connection, entry: Entry, state: State = "done") -> bool:
    """Take a job out of the line; False where it was there no more.

    A queue that was made anew (`queue.rebuild`) numbers its jobs anew: a job is known by its folder, and there by its number
    or by the process at work on it.
    """
    who = _who(entry.process) if entry.process else (None, None, None, None)
    row = connection.execute(
        "UPDATE jobs SET state = ?, ended = ? WHERE path = ? AND state IN ('queued', 'running') "
        "AND (number = ? OR (pid = ? AND pid_started = ? AND boot = ? AND host = ?))",
        (state, time.time(), str(entry.path), entry.number, *who),
    )
    connection.execute("DELETE FROM jobs WHERE state IN ('done', 'cancelled') AND number <= ?", (entry.number - _KEPT,))
    return row.rowcount > 0


def cancel(connection: Connection, entry: Entry, reason: str = CANCELLED) -> None:
    """Take a queued job out of the line; its status says so."""
    if not end(connection, entry, "cancelled"):
        return
    job = Job(entry.path)
    before = _stored(job)
    if before is not None and before.state == "queued":
        _write(job, replace(before, state="stopped", message=reason))


def write_queued(job: Job, before: JobStatus, device: str) -> None:
    """Write a job's status as queued; what it has reached before is kept."""
    nobody = {"pid": None, "pid_started": None, "boot": "", "host": ""}
    _write(job, replace(before, state="queued", message="Queued", heartbeat=time.time(), device=device, **nobody))


def worker_of(connection: Connection, device: str) -> Process | None:
    """The process registered as the device's worker, dead or alive."""
    row = connection.execute("SELECT * FROM workers WHERE device = ?", (device,)).fetchone()
    return None if row is None else queue_store.process_of(row)


def is_served(line: Sequence[Entry], worker: Process | None) -> bool:
    """Whether the registered worker of a line is alive; on another machine only its job tells."""
    if worker is None or worker.is_here:
        return worker is not None and worker.is_alive()
    return any(entry.process == worker and not _is_dead(entry) for entry in line)


def register(connection: Connection, device: str, worker: Process) -> None:
    """Write down that `worker` serves the device."""
    connection.execute(
        "INSERT OR REPLACE INTO workers (device, registered, pid, pid_started, boot, host) VALUES (?, ?, ?, ?, ?, ?)",
        (device, time.time(), *_who(worker)),
    )


def ensure_worker(connection: Connection, device: str, *, at_once: bool = False) -> None:
    """Start a worker where jobs wait for one and none is alive.

    Args:
        connection: Of the transaction.
        device: The line.
        at_once: Also where the last one died a moment ago.
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
    """The command line of a worker."""
    return [sys.executable, "-m", "analysis.worker", "--device", device]


def _start(device: str) -> Process | None:
    """A new worker, in a session of its own, which outlives this process; what it prints goes to its log."""
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
    # Somebody has to wait for the child, or it stays a zombie.
    threading.Thread(target=process.wait, name=f"waits for worker {process.pid}", daemon=True).start()
    # One that has failed already counts, too, or it would be started again at once, without end.
    return processes.find(process.pid) or processes.ended(process.pid)


def _has_work(line: Sequence[Entry]) -> bool:
    return any(entry.state == "queued" and not entry.foreground for entry in line)


def _crash(connection: Connection, entry: Entry) -> None:
    end(connection, entry)
    job = Job(entry.path)
    before = _stored(job)
    if before is not None and before.active:
        message = f"The process at work on it ended without a word. See {job.path / 'worker.log'}. It can be resumed."
        _write(job, replace(before, state="crashed", message=message))


def _is_dead(entry: Entry) -> bool:
    """Whether the process of a running job is gone; on another machine the heartbeat of the job tells."""
    if entry.process is None or entry.process.is_here:
        return entry.process is None or not entry.process.is_alive()
    try:
        stored = Job(entry.path).stored_at_work()
    except (RunError, OSError):
        return True
    return stored is None or not jobs.is_alive(stored)


def _will_not_begin(entry: Entry) -> str:
    """Why a queued job has to leave the line; empty where it has not."""
    if entry.state != "queued":
        return ""
    if (entry.path / "stop").exists():
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


def _who(process: Process) -> tuple[int, float, str, str]:
    return process.pid, process.started, process.boot, process.host
