"""The process that serves a device's line: `python -m analysis.worker --device cpu`, started by the queue.

It claims the oldest job, executes it and replaces itself by a fresh process, so that no memory is carried over; it exits
when nothing is queued. Torch is imported only after a job was claimed. `python -m analysis.worker JOB` executes one job at
once, bypassing the queue. Exit code 0: done or nothing to do; 2: the one job failed, or the queue cannot be used.
"""

import argparse
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from analysis import paths
from analysis.errors import BusyError, PalimpsestError, RunError
from analysis.jobs import Job, JobStatus, layout, lock, processes, queue, queue_rules, queue_store
from analysis.jobs.job import CANCELLED, by_this_process
from analysis.jobs.queue_store import Entry
from analysis.removals.layout import record_file

__all__ = ["KINDS", "main", "serve"]

_LEAVE_TRIES = 30
_LOCK_WAIT = 30.0
"""Seconds to wait for a process that submits a job and still changes it; one that executes it holds the lock longer."""
_NICENESS = 19
"""Niceness of a worker on the CPU, so that the dashboard stays responsive."""
_log = logging.getLogger(__name__)


def _run(path: Path) -> None:
    from analysis.runs import RunDirectory, execution

    execution.execute(RunDirectory(path))


def _removal(path: Path) -> None:
    from analysis import removals

    removals.execute(removals.Removal(path))


KINDS: Mapping[str, Callable[[Path], None]] = {"run": _run, "removal": _removal, "operation": _removal}
"""Kind of job -> function that executes it; versions before 0.2 entered removals as “operation”."""


def main() -> int:
    """Entry point of the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser(prog="python -m analysis.worker", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--device", help="serve the queue of this device")
    what.add_argument("job", nargs="?", type=Path, help="folder of one job to execute at once, bypassing the queue")
    asked = parser.parse_args()
    try:
        if asked.device is not None:
            return serve(asked.device, KINDS)
        KINDS["removal" if record_file(asked.job) else "run"](asked.job)
    except PalimpsestError as error:
        _log.error("%s", error)
        return 2
    return 0


def serve(device: str, kinds: Mapping[str, Callable[[Path], None]]) -> int:
    """Execute the first job of a device's queue, then restart as a fresh process; returns 0 once nothing is queued.

    Raises:
        RunError: the queue cannot be used.
    """
    _print_to(paths.home() / f"worker-{device.replace(':', '-')}.log")
    if device == "cpu" and hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    while True:
        entry = claim(device)
        if entry is not None:
            break
        if sign_off(device):
            return 0
        time.sleep(queue.LOOK_EVERY)
    _execute(entry, kinds)
    _leave(entry)
    _log.info("looking for the next job")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def claim(device: str) -> Entry | None:
    """Claim the oldest job of a device's queue; None if nothing is queued or another process comes first.

    Raises:
        RunError: the queue cannot be written.
    """
    me = processes.current()
    with queue_rules.changing(device) as connection:
        line, registered = queue_store.entries(connection, device), queue_rules.worker_of(connection, device)
        if registered != me and queue_rules.is_served(line, registered):
            return None
        queue_rules.register(connection, device, me)
        for entry in line:
            if entry.process == me:  # its job has ended, but the queue could not be updated
                queue_rules.end(connection, entry)
        line = queue_store.entries(connection, device)
        if not line or line[0].foreground or not queue_rules.begin(connection, line[0], me):
            return None
        return replace(line[0], state="running", process=me, place=0)


def sign_off(device: str) -> bool:
    """Whether this worker may exit: no job waits for it, or another worker is registered. Unregisters it if no job waits.

    Raises:
        RunError: the queue cannot be written.
    """
    me = processes.current()
    with queue_rules.changing(device) as connection:
        if queue_rules.worker_of(connection, device) != me:
            return True
        line = queue_store.entries(connection, device)
        if any(entry.state == "queued" and not entry.foreground for entry in line):
            return False
        connection.execute("DELETE FROM workers WHERE device = ?", (device,))
        return True


def _execute(entry: Entry, kinds: Mapping[str, Callable[[Path], None]]) -> None:
    """Execute a job; an error is written to the job's status, and this process goes on."""
    job = Job(entry.path)
    try:
        _print_to(job.path / layout.LOG)
        if _begin(job):
            kinds[entry.kind](entry.path)
    except BusyError as error:  # the status belongs to the process that executes the job
        _log.warning("%s Its status is left alone.", error)
    except PalimpsestError as error:
        _log.error("%s", error)
        _give_up(job, str(error))
    except Exception as error:  # noqa: BLE001 (a bug in one job must not stop the others)
        _log.error("%s", traceback.format_exc())
        _give_up(job, f"A bug: {type(error).__name__}: {error}. See {job.path / 'worker.log'}.")


def _begin(job: Job) -> bool:
    """Write to a job's status that this process executes it; False if the job was cancelled after the claim.

    Raises:
        BusyError: another process executes the job.
    """
    with lock.held(job.path, wait=_LOCK_WAIT):
        before = job.stored() or JobStatus(state="starting")
        if job.stop_requested():
            job.write_status(replace(before, state="stopped", message=CANCELLED))
            return False
        at_work = by_this_process(job)
        job.write_status(replace(before, **at_work, state="starting", message="Starting", heartbeat=time.time()))
        return True


def _give_up(job: Job, message: str) -> None:
    """Write to a job's status why it failed, unless the job has already written how it ended."""
    try:
        status = job.stored()
        if status is None or status.active:
            job.write_status(replace(status or JobStatus(state="failed"), state="failed", message=message))
        else:  # for example a finished run whose control could not begin
            _log.error("%s: %s", job.path, message)
    except (OSError, RunError) as error:
        _log.error("the status of %s cannot be written: %s", job.path, error)


def _leave(entry: Entry) -> None:
    """Remove an ended job from the queue; if that fails, the queue notices the end of this process.

    Raises:
        RunError: the queue could not be written after several tries.
    """
    for attempt in range(_LEAVE_TRIES):
        try:
            with queue_store.writing() as connection:
                queue_rules.end(connection, entry)
            return
        except RunError as error:
            _log.error("%s", error)
            if attempt == _LEAVE_TRIES - 1:
                raise
            time.sleep(queue.LOOK_EVERY)


def _print_to(path: Path) -> None:
    """Redirect the output of this process, including that of its libraries, to a file."""
    try:
        with path.open("ab") as log:
            os.dup2(log.fileno(), sys.stdout.fileno())
            os.dup2(log.fileno(), sys.stderr.fileno())
    except OSError as error:
        _log.error("%s cannot be written (%s)", path, error)


if __name__ == "__main__":
    sys.exit(main())
