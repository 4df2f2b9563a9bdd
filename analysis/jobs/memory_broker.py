"""Lets a job ask dashboards to free device memory, through two tables of the queue's database.

A dashboard never trains, so the model that it shows can be moved or unloaded at any time. Each dashboard records what it
holds on which device (`record_held`). A job that finds too little free memory writes a request and waits
(`wait_for_memory`). The dashboards read the requests every second (`open_requests`), free the memory and record that
(`record_released`).

Devices are named as in the queue: "cpu", "cuda:0", "mps".
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from sqlite3 import Connection

from analysis.errors import RunError, StoppedError
from analysis.jobs import Job, processes, queue_store
from analysis.jobs.processes import Process
from analysis.models.memory import MemoryEstimate

__all__ = [
    "WAIT_SECONDS",
    "Request",
    "open_requests",
    "record_held",
    "record_released",
    "recorded",
    "wait_for_memory",
]

WAIT_SECONDS = 60.0
"""How long a job waits for dashboards."""
_CHECK_SECONDS = 0.25
_OWN_ROWS = "pid = ? AND pid_started = ? AND boot = ? AND host = ?"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A job's request that dashboards free memory on a device."""

    number: int
    device: str
    bytes: int
    """What the job needs in total, not what is missing."""
    job: str
    """The job's name."""


def wait_for_memory(estimate: Callable[[], MemoryEstimate], job: Job, say: Callable[[str], None]) -> None:
    """Return once the memory that `job` needs is free; ask the dashboards that hold memory on the device to free it.

    Args:
        estimate: Compares what is needed with what is free when it is called.
        job: The job that needs the memory; it may be asked to stop while it waits.
        say: Called with a message about what the job waits for.

    Raises:
        MemoryShortError: too little memory is free, and no dashboard could free enough.
        StoppedError: the job was asked to stop while it waited.
    """
    found = estimate()
    if found.fits:
        return
    device, deadline = _queue_name(found.device), time.monotonic() + WAIT_SECONDS
    try:
        with _open_request(device, found.needed, job):
            while _holders(device) and not found.fits and time.monotonic() < deadline:
                say("Waiting for the dashboard to free memory")
                if job.stop_requested():
                    raise StoppedError("Stopped while it waited for free memory. Nothing was changed.")
                time.sleep(_CHECK_SECONDS)
                found = estimate()
            if not found.fits:
                found = estimate()  # the last dashboard may have freed memory after the last check
    except RunError as error:
        _log.warning("No dashboard could be asked to free memory: %s", error)
    found.check()


def record_held(device: str, n_bytes: int) -> None:
    """Record that this process, a dashboard, holds `n_bytes` on a device.

    Raises:
        RunError: the queue cannot be written.
    """
    own = _columns(processes.current())
    with queue_store.writing() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO holdings (device, bytes, pid, pid_started, boot, host) VALUES (?, ?, ?, ?, ?, ?)",
            (_queue_name(device), n_bytes, *own),
        )


def recorded() -> dict[str, int]:
    """What this process, a dashboard, has recorded that it holds: bytes by device.

    Raises:
        RunError: the queue cannot be read.
    """
    with queue_store.reading() as connection:
        rows = connection.execute(
            f"SELECT device, bytes FROM holdings WHERE {_OWN_ROWS}", _columns(processes.current())
        ).fetchall()
    return {row["device"]: row["bytes"] for row in rows}


def record_released(device: str) -> None:
    """Record that this process, a dashboard, no longer holds memory on a device.

    Raises:
        RunError: the queue cannot be written.
    """
    with queue_store.writing() as connection:
        connection.execute(
            f"DELETE FROM holdings WHERE device = ? AND {_OWN_ROWS}",
            (_queue_name(device), *_columns(processes.current())),
        )


def open_requests(device: str) -> list[Request]:
    """The requests of jobs for memory on a device, oldest first, without those of processes that have died.

    Raises:
        RunError: the queue cannot be read.
    """
    with queue_store.reading() as connection:
        rows = connection.execute(
            "SELECT * FROM requests WHERE device = ? ORDER BY number", (_queue_name(device),)
        ).fetchall()
    return [
        Request(number=row["number"], device=row["device"], bytes=row["bytes"], job=row["job"])
        for row in rows
        if (process := queue_store.process_of(row)) is not None and (process.is_alive() or not process.is_here)
    ]


@contextmanager
def _open_request(device: str, n_bytes: int, job: Job) -> Iterator[None]:
    """Keep a request in the database while the block runs; delete the rows that dead processes left behind."""
    with queue_store.writing() as connection:
        _delete_rows_of_dead_processes(connection)
        number = connection.execute(
            "INSERT INTO requests (device, bytes, job, pid, pid_started, boot, host) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (device, n_bytes, job.name, *_columns(processes.current())),
        ).lastrowid
    try:
        yield
    finally:
        with queue_store.writing() as connection:
            connection.execute("DELETE FROM requests WHERE number = ?", (number,))


def _holders(device: str) -> list[Process]:
    """The other processes that hold memory on a device and are alive."""
    with queue_store.reading() as connection:
        rows = connection.execute("SELECT * FROM holdings WHERE device = ?", (device,)).fetchall()
    own = processes.current()
    found = [process for row in rows if (process := queue_store.process_of(row)) is not None]
    return [process for process in found if process != own and (process.is_alive() or not process.is_here)]


def _delete_rows_of_dead_processes(connection: Connection) -> None:
    for table in ("holdings", "requests"):
        for row in connection.execute(f"SELECT * FROM {table}").fetchall():
            process = queue_store.process_of(row)
            if process is not None and process.is_here and not process.is_alive():
                connection.execute(f"DELETE FROM {table} WHERE {_OWN_ROWS}", _columns(process))


def _queue_name(device: str) -> str:
    return "cuda:0" if device == "cuda" else device


def _columns(process: Process) -> tuple[int, float, str, str]:
    return process.pid, process.started, process.boot, process.host
