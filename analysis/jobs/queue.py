"""Queues the jobs of this home folder: one at a time on each device, first come first served, without a daemon.

`submit` adds a job and starts a worker for its device if none is alive. A worker (`analysis.worker`) claims the oldest
job, executes it, replaces itself by a fresh process and claims the next; it exits when nothing is queued. Everything that
reads the queue calls `tend`, which handles processes that have died. A command line that works in its own process waits
for its `turn`.

The database is in `queue_store`, the rules in `queue_rules`, requests for device memory in `memory_broker`.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from analysis import paths
from analysis.errors import RunError, StoppedError
from analysis.jobs import Job, layout, processes, queue_rules, queue_store
from analysis.jobs.memory_broker import wait_for_memory
from analysis.jobs.processes import Process
from analysis.jobs.queue_store import Entry, place

__all__ = [
    "LOOK_EVERY",
    "Entry",
    "cancel",
    "device_of",
    "entries",
    "place",
    "rebuild",
    "submit",
    "tend",
    "turn",
    "wait_for_memory",
    "waiting",
]

LOOK_EVERY = 1.0
"""Seconds between two checks of a queue in which another job comes first."""
_log = logging.getLogger(__name__)


def submit(path: Path, kind: str, device: str = "auto", owner: str = "") -> int:
    """Put a job at the end of its device's queue and start a worker there if none is alive.

    Args:
        path: The job's folder.
        kind: "run" or "removal".
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        owner: Who submits it, in a few words; may be empty.

    Returns:
        Its place in the queue: 1 is next.

    Raises:
        ConfigError: the device does not exist here.
        RunError: the job is queued or running already, or the queue cannot be written.
    """
    job, resolved = Job(paths.real(path)), device_of(device)
    before = job.status()
    if before.active and before.pid is not None:
        raise RunError(f"“{job.name}” is running already.")
    with queue_rules.changing(resolved) as connection:
        entry = queue_rules.enter(connection, job, kind, resolved, owner)
        (job.path / layout.STOP).unlink(missing_ok=True)
        queue_rules.write_queued(job, before, resolved)
        queue_rules.ensure_worker(connection, resolved, at_once=True)
    return entry.place


def device_of(device: str) -> str:
    """The name of a device in the queue: "auto" resolved, and a CUDA device with its number.

    Raises:
        ConfigError: the device does not exist on this machine.
    """
    if device == "cpu":
        return device
    from analysis import models

    chosen = models.pick_device(device)
    return "cuda:0" if chosen == "cuda" else chosen


def entries() -> list[Entry]:
    """All jobs that are running or queued, device by device, in order.

    Raises:
        RunError: the queue cannot be read.
    """
    with queue_store.reading() as connection:
        return queue_store.entries(connection)


def waiting() -> list[Entry]:
    """The jobs that are queued, device by device, in order."""
    return [entry for entry in entries() if entry.state == "queued"]


def cancel(path: Path) -> bool:
    """Remove a queued job, or ask a running one to stop; False if the job is neither.

    Raises:
        RunError: the queue cannot be written, or the job has just started and has no folder yet.
    """
    job = Job(paths.real(path))
    with queue_store.writing() as connection:
        found = queue_store.find(connection, job.path)
        if found is not None and found.state == "queued":
            queue_rules.cancel(connection, found)
    if found is not None and found.state == "running":
        try:
            job.request_stop()
        except FileNotFoundError as error:
            raise RunError(
                f"“{job.name}” has just started and cannot be stopped yet. Try again in a moment."
            ) from error
    return found is not None


def tend() -> None:
    """Mark jobs whose process has died as crashed, and start a worker where jobs are queued and none is alive.

    It is cheap and safe to call at any time. A queue that cannot be used is logged, not raised: `submit` and `entries`
    raise the error.
    """
    try:
        with queue_store.reading() as connection:
            found = queue_store.entries(connection)
            devices = sorted({entry.device for entry in found})
            workers = {device: queue_rules.worker_of(connection, device) for device in devices}
        for device in devices:
            if queue_rules.needs_change([entry for entry in found if entry.device == device], workers[device]):
                with queue_rules.changing(device, wait=0.5) as connection:
                    queue_rules.ensure_worker(connection, device)
    except RunError as error:
        _log.warning("%s", error)


@contextmanager
def turn(
    path: Path, kind: str, device: str, *, say: Callable[[str], None], owner: str = "", now: bool = False
) -> Iterator[None]:
    """Wait in the device's queue with this process, and hold the device while the block runs.

    Args:
        path: The job's folder, which need not exist yet.
        kind: "run" or "removal".
        device: As for `submit`.
        say: Called with a message when the place in the queue changes.
        owner: As for `submit`.
        now: Start without waiting. The job is still entered as running, so that others wait for it.

    Raises:
        ConfigError: the device does not exist here.
        StoppedError: the job was cancelled or asked to stop while it waited.
        RunError: it is in the queue already, or the queue cannot be written.
    """
    job, resolved, me = Job(paths.real(path)), device_of(device), processes.current()
    with queue_rules.changing(resolved) as connection:
        entry = queue_rules.enter(connection, job, kind, resolved, owner, waits=me)
        if job.path.is_dir():
            queue_rules.write_queued(job, job.status(), resolved)
    begun = False
    try:
        _wait(entry, me, say, now)
        begun = True
        yield
    finally:
        with suppress(RunError), queue_store.writing() as connection:
            if begun:
                queue_rules.end(connection, entry)
            else:
                queue_rules.cancel(connection, entry)
        tend()


def rebuild() -> Path | None:
    """Set a damaged database aside and make a new one from the jobs whose status says that they are queued or running.

    Returns:
        Where the old database is now; None if there was none.
    """
    old = queue_store.database()
    aside = old.with_name(f"{old.name}.{time.time_ns()}.damaged")
    for ending in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            shutil.move(old.with_name(old.name + ending), aside.with_name(aside.name + ending))
    found = []
    roots = [("run", paths.runs_root()), *(("removal", root) for root in paths.removal_roots())]
    for kind, root in roots:
        for file in root.glob("*/status.json"):
            job = Job(paths.real(file.parent))
            with suppress(RunError, OSError):
                if (status := job.stored_at_work()) and status.active and status.device:
                    found.append((status.state == "queued", status.heartbeat, job, kind, status))
    with queue_store.writing() as connection:
        # larger than any number that the old database can have given
        queue_store.count_from(connection, time.time_ns() // 1_000_000)
        for queued, _, job, kind, status in sorted(found, key=lambda one: one[:2]):
            entry = queue_rules.enter(connection, job, kind, status.device, "")
            if not queued and status.pid is not None and status.pid_started is not None:
                process = Process(pid=status.pid, started=status.pid_started, boot=status.boot, host=status.host)
                queue_rules.begin(connection, entry, process, now=True)
    tend()
    return aside if aside.exists() else None


def _wait(entry: Entry, me: Process, say: Callable[[str], None], now: bool) -> None:
    """Wait until the job of this process may start."""
    announced = 0
    while True:
        with queue_rules.changing(entry.device) as connection:
            line = queue_store.entries(connection, entry.device)
            mine = next((one for one in line if one.number == entry.number and one.path == entry.path), None)
            other = None if mine else queue_store.find(connection, entry.path)
            begun = mine is not None and queue_rules.begin(connection, mine, me, now=now)
        if other is not None:
            raise StoppedError(
                f"“{entry.name}” no longer waits in this process: it was submitted again, or the queue was rebuilt, and a "
                "worker will execute it. `palimpsest queue` lists it."
            )
        if mine is None:
            raise StoppedError(f"“{entry.name}” was cancelled while it was queued.")
        if begun:
            return
        if mine.place != announced:
            announced = mine.place
            say(f"Waiting for {entry.device}" + (f", {announced - 1} before it" if announced > 1 else ""))
        time.sleep(LOOK_EVERY)
