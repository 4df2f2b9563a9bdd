"""Room in a device's memory: jobs ask dashboards for it, dashboards say what they hold.

A dashboard never trains, so what its viewer holds can go elsewhere at any time. A job that finds too little memory free
writes a request into the queue's database and waits; the dashboards that hold something there look for requests every
second (`requests`), let go, and say so (`release`).

Devices are named as the queue's lines are: "cpu", "cuda:0", "mps".
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

__all__ = ["PATIENCE", "Request", "held", "hold", "make_room", "release", "requests"]

PATIENCE = 60.0
"""Seconds that a job waits for dashboards."""
_LOOK_EVERY = 0.25
_MINE = "pid = ? AND pid_started = ? AND boot = ? AND host = ?"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A job's request for room."""

    number: int
    device: str
    bytes: int
    """How much it needs in all, not how much is missing."""
    job: str
    """Its name."""


def make_room(estimate: Callable[[], MemoryEstimate], job: Job, say: Callable[[str], None]) -> None:
    """Return once what `job` needs is free; where it is not, ask the dashboards that hold memory on the device.

    Args:
        estimate: What is needed against what is free, at the moment of the call.
        job: For whom; it may be asked to stop meanwhile.
        say: Called with what is waited for.

    Raises:
        MemoryShortError: there is no room, and no dashboard could make enough.
        StoppedError: the job was asked to stop while it waited.
    """
    found = estimate()
    if found.fits:
        return
    device, deadline = _line(found.device), time.monotonic() + PATIENCE
    try:
        with _asked(device, found.needed, job):
            while _holders(device) and not found.fits and time.monotonic() < deadline:
                say("Waiting for the dashboard to make room")
                if job.stop_requested():
                    raise StoppedError("Stopped while it waited for room in memory. Nothing was changed.")
                time.sleep(_LOOK_EVERY)
                found = estimate()
            if not found.fits:
                found = estimate()  # the last holder may have let go after the last look
    except RunError as error:
        _log.warning("nobody could be asked for room: %s", error)
    found.check()


def hold(device: str, count: int) -> None:
    """For a dashboard: write down that this process holds `count` bytes on a device.

    Raises:
        RunError: the queue cannot be written.
    """
    me = _who(processes.current())
    with queue_store.writing() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO holdings (device, bytes, pid, pid_started, boot, host) VALUES (?, ?, ?, ?, ?, ?)",
            (_line(device), count, *me),
        )


def held() -> dict[str, int]:
    """For a dashboard: what is written down that this process holds, in bytes by device.

    Raises:
        RunError: the queue cannot be read.
    """
    with queue_store.reading() as connection:
        rows = connection.execute(
            f"SELECT device, bytes FROM holdings WHERE {_MINE}", _who(processes.current())
        ).fetchall()
    return {row["device"]: row["bytes"] for row in rows}


def release(device: str) -> None:
    """For a dashboard: write down that this process holds nothing on a device any more.

    Raises:
        RunError: the queue cannot be written.
    """
    with queue_store.writing() as connection:
        connection.execute(
            f"DELETE FROM holdings WHERE device = ? AND {_MINE}", (_line(device), *_who(processes.current()))
        )


def requests(device: str) -> list[Request]:
    """For a dashboard: what jobs ask for on a device, oldest first; requests of dead processes are left out.

    Raises:
        RunError: the queue cannot be read.
    """
    with queue_store.reading() as connection:
        rows = connection.execute(
            "SELECT * FROM requests WHERE device = ? ORDER BY number", (_line(device),)
        ).fetchall()
    return [
        Request(number=row["number"], device=row["device"], bytes=row["bytes"], job=row["job"])
        for row in rows
        if (process := queue_store.process_of(row)) is not None and (process.is_alive() or not process.is_here)
    ]


@contextmanager
def _asked(device: str, count: int, job: Job) -> Iterator[None]:
    """A request, for as long as the block lasts; those that dead processes left behind go with it."""
    with queue_store.writing() as connection:
        _forget_the_dead(connection)
        number = connection.execute(
            "INSERT INTO requests (device, bytes, job, pid, pid_started, boot, host) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (device, count, job.name, *_who(processes.current())),
        ).lastrowid
    try:
        yield
    finally:
        with queue_store.writing() as connection:
            connection.execute("DELETE FROM requests WHERE number = ?", (number,))


def _holders(device: str) -> list[Process]:
    """The other processes that hold memory on a device."""
    with queue_store.reading() as connection:
        rows = connection.execute("SELECT * FROM holdings WHERE device = ?", (device,)).fetchall()
    me = processes.current()
    found = [process for row in rows if (process := queue_store.process_of(row)) is not None]
    return [process for process in found if process != me and (process.is_alive() or not process.is_here)]


def _forget_the_dead(connection: Connection) -> None:
    for table in ("holdings", "requests"):
        for row in connection.execute(f"SELECT * FROM {table}").fetchall():
            process = queue_store.process_of(row)
            if process is not None and process.is_here and not process.is_alive():
                connection.execute(f"DELETE FROM {table} WHERE {_MINE}", _who(process))


def _line(device: str) -> str:
    return "cuda:0" if device == "cuda" else device


def _who(process: Process) -> tuple[int, float, str, str]:
    return process.pid, process.started, process.boot, process.host
