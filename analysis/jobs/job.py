"""A job: long work in a separate process, which writes its status and events to a folder that anyone may read.

    JOB/status.json     state, process, heartbeat; replaced atomically
    JOB/events.jsonl    append-only: steps with their loss, stages, errors
    JOB/stop            exists once the job was asked to stop
    JOB/worker.log      output of the process

A relearning run (`runs`) and a removal (`removals`) are jobs.
"""

import json
import logging
import platform
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from analysis import paths
from analysis.errors import PalimpsestError, RunError, StoppedError
from analysis.jobs import layout, processes, queue_store

__all__ = ["ACTIVE", "CANCELLED", "Job", "JobStatus", "StatusKeeper", "by_this_process", "is_alive", "read_json"]

State = Literal["queued", "starting", "running", "stopping", "finished", "stopped", "failed", "crashed"]

CANCELLED = "Cancelled while it was queued."
ACTIVE = ("queued", "starting", "running", "stopping")
_HEARTBEAT_EVERY = 2.0
_HEARTBEAT_TIMEOUT = 20.0
"""Seconds without a heartbeat after which a process on another machine or in another container counts as dead."""
_START_TIMEOUT = 60.0
_ENTERING = 10.0
"""Seconds in which a job with the status “queued” may be missing from the queue, because it is being entered."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobStatus:
    """What a job is doing."""

    state: State
    message: str = ""
    """The current stage, or why it failed."""
    step: int = 0
    snapshots: int = 0
    pid: int | None = None
    pid_started: float | None = None
    """When the process started (`processes.Process`); the id alone may have been reused."""
    boot: str = ""
    host: str = ""
    device: str = ""
    """Where it runs or will run, as resolved by the queue; empty outside the queue."""
    heartbeat: float = 0.0
    seconds: float = 0.0

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


class Job:
    """A job's folder. Only the process that executes the job writes to it, except for `request_stop`."""

    kept = "What was written up to here is kept"
    """What messages about a crash say about the files so far."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    def stored(self) -> JobStatus | None:
        """The status that was last written, which may be out of date; None if none was written yet.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path / layout.STATUS
        try:
            stored = read_json(path)
            for name in ("heartbeat", "seconds", "step", "snapshots"):
                if not isinstance(stored.get(name, 0), int | float):
                    raise RunError(f"{path} is damaged ({name} is not a number).")
            return JobStatus(**stored)
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise RunError(f"{path} is damaged ({error}).") from error

    def stored_at_work(self) -> JobStatus | None:
        """The stored status of what is running or queued in this folder: the job itself, or the control of a run.

        The status of a run says “finished” while the same process executes its control on the same device.

        Raises:
            RunError: one of them is damaged.
        """
        own = self.stored()
        if own is None or own.active:
            return own
        control = Job(self.path / layout.CONTROL).stored()
        return replace(control, device=own.device) if control is not None and control.active else own

    def status(self) -> JobStatus:
        """The stored status, or “crashed” if the job is active and its process is gone."""
        try:
            status = self.stored() or JobStatus(state="starting", heartbeat=self.path.stat().st_mtime)
        except RunError as error:
            return JobStatus(state="failed", message=f"{error} {self.kept}.")
        if status.state == "queued":
            return self._queued(status)
        if status.active and not is_alive(status):
            advice = f"See {self.path / 'worker.log'}. {self.kept}; start it again."
            return replace(status, state="crashed", message=f"The worker ended without a message. {advice}")
        return status

    def _queued(self, status: JobStatus) -> JobStatus:
        """The status of a job whose stored status is “queued”, with its place in the queue."""
        if self.stop_requested():  # the next change of the queue removes it
            return replace(status, state="stopped", message=CANCELLED)
        try:
            place = queue_store.place(self.path)
        except RunError as error:
            return replace(status, message=str(error))
        if place:
            return replace(status, message=f"{_ordinal(place)} in the queue")
        now = self.stored()
        if now is not None and now.state != "queued":
            return self.status()  # it has started in the meantime
        if place == 0 or abs(time.time() - status.heartbeat) < _ENTERING:
            return replace(status, state="starting" if place == 0 else "queued", message="Starting")
        return replace(
            status, state="stopped", message=f"It is not in the queue any more. {self.kept}; start it again."
        )

    def events(self) -> list[dict[str, Any]]:
        """All complete lines of the event log, without a last line that is still being written."""
        try:
            lines = (self.path / layout.EVENTS).read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def stop_requested(self) -> bool:
        return (self.path / layout.STOP).exists()

    def request_stop(self) -> None:
        """Ask the job to stop after its current step; a queued job leaves the queue."""
        (self.path / layout.STOP).touch()

    def write_status(self, status: JobStatus) -> None:
        paths.write_atomically(self.path / layout.STATUS, json.dumps(asdict(status)).encode())

    def append_event(self, kind: str, **details: Any) -> None:
        with (self.path / layout.EVENTS).open("a") as file:
            file.write(json.dumps({"time": time.time(), "kind": kind, **details}) + "\n")


class StatusKeeper:
    """Writes a job's status while it is executed: every change at once, and a heartbeat in between."""

    def __init__(self, job: Job):
        self._job, self._lock, self._over = job, threading.Lock(), threading.Event()
        self._started = time.time()
        self.status = replace(JobStatus(state="running", message="Starting"), **by_this_process(job))
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def execute(self, work: Callable[[], str]) -> JobStatus:
        """Call `work`, which returns the last message or raises, and write the final status.

        Raises:
            PalimpsestError: the work failed; the status says so, too.
        """
        self.update()
        self._thread.start()
        try:
            message = work()
            self.finish("stopped" if message.startswith("Stopped") else "finished", message)
        except StoppedError as error:
            self.finish("stopped", str(error))
        except PalimpsestError as error:
            self._job.append_event("error", text=str(error))
            self.finish("failed", str(error))
            raise
        except OSError as error:
            self.finish("failed", f"Writing failed: {error}. What was written before is kept.")
            raise
        except KeyboardInterrupt:
            self.finish("stopped", "Interrupted")
            raise
        except Exception as error:
            self._job.append_event("error", text=traceback.format_exc())
            self.finish("failed", f"A bug: {type(error).__name__}: {error}. See events.jsonl for the trace.")
            raise
        finally:
            self._over.set()
            self._thread.join()
        return self.status

    def update(self, **changes: Any) -> None:
        with self._lock:
            times = {"heartbeat": time.time(), "seconds": time.time() - self._started}
            self.status = replace(self.status, **times, **changes)
            self._job.write_status(self.status)

    def finish(self, state: State, message: str) -> None:
        """Write the last status, after the heartbeat has stopped."""
        self._over.set()
        self.update(state=state, message=message)
        self._job.append_event(state, text=message)

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_EVERY):
            try:
                self.update()
            except OSError:
                _log.exception("the heartbeat could not be written")


def by_this_process(job: Job) -> dict[str, Any]:
    """The fields of a status that name this process and the device of the job."""
    process, before = processes.current(), None
    with suppress(RunError):  # a damaged status is about to be replaced
        before = job.stored()
    return {
        "pid": process.pid,
        "pid_started": process.started,
        "boot": process.boot,
        "host": process.host,
        "device": before.device if before else "",
    }


def is_alive(status: JobStatus) -> bool:
    """Whether the process that wrote a status is still running."""
    if status.pid is None:
        return abs(time.time() - status.heartbeat) < _START_TIMEOUT
    if status.host != platform.node():
        return abs(time.time() - status.heartbeat) < _HEARTBEAT_TIMEOUT
    found = processes.find(status.pid)
    return found is not None and status.pid_started in (None, found.started) and status.boot in ("", found.boot)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        FileNotFoundError: the file does not exist.
        RunError: the file is damaged.
    """
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}).") from error
    if not isinstance(data, dict):
        raise RunError(f"{path} is damaged (not a JSON object).")
    return data


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
