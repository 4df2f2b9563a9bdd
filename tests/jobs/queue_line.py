"""What tests of the queue share: a home with a line of stand-in jobs, served by real processes."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from analysis.jobs import Job, queue, queue_rules, queue_store
from analysis.jobs.processes import Process

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def stand_in(device: str) -> list[str]:
    """The command line of a worker that knows stand-in jobs only."""
    return [sys.executable, "-m", "tests.jobs.queue_worker", "--device", device]


def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Until `condition` holds.

    Raises:
        TimeoutError: it does not come to hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        time.sleep(0.02)


class Line:
    """Stand-in jobs in a home."""

    def __init__(self, home: Path):
        self.home = home

    def job(self, name: str, seconds: float = 0.0, then: str = "") -> Job:
        """A job's folder, not submitted."""
        path = self.home / "runs" / name
        path.mkdir(parents=True)
        (path / "job.json").write_text(json.dumps({"seconds": seconds, "then": then}))
        return Job(path)

    def submit(self, name: str, seconds: float = 0.0, then: str = "") -> Job:
        job = self.job(name, seconds, then)
        queue.submit(job.path, "nap", "cpu")
        return job

    @property
    def worker(self) -> Process | None:
        with queue_store.reading() as connection:
            return queue_rules.worker_of(connection, "cpu")

    def end(self) -> None:
        """Kill what is still at work."""
        for process in [self.worker, *(entry.process for entry in queue.entries())]:
            if process is not None and process.pid != os.getpid() and process.is_alive():
                os.kill(process.pid, signal.SIGKILL)


def opened(home: Path) -> Iterator[Line]:
    """A line in `home`, whose processes are ended with it."""
    line = Line(home)
    yield line
    with suppress(Exception):
        line.end()


def seen(job: Job) -> dict:
    """What a stand-in job noted about its time at work; empty before it has begun."""
    try:
        return json.loads((job.path / "seen.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
