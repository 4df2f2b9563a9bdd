"""Jobs and dashboards that come to terms about memory, each in a process of its own; what is free is made up."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis.errors import MemoryShortError, StoppedError
from analysis.jobs import Job, memory_broker, queue, queue_store
from analysis.models.memory import MemoryEstimate
from tests.jobs.queue_line import ENVIRONMENT, ROOT, wait

GIB = 2**30
WAITING = "Waiting for the dashboard to free memory"


@pytest.fixture
def job(empty_home: Path) -> Job:
    path = empty_home / "runs" / "20260101-hungry"
    path.mkdir(parents=True)
    return Job(path)


@pytest.fixture
def dashboard(empty_home: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a process that holds 2 GiB of a device and obeys the first request, or does not."""
    started: list[subprocess.Popen] = []

    def start(device: str = "cpu", *, obeys: bool = True) -> subprocess.Popen:
        text = (
            "import time\nfrom pathlib import Path\nfrom analysis.jobs import memory_broker\n"
            f"memory_broker.record_held({device!r}, 2 * 2**30)\nprint('holds', flush=True)\n"
            f"while not (found := memory_broker.open_requests({device!r})) or not {obeys}: time.sleep(0.02)\n"
            f"print(found[0].job, found[0].bytes, found[0].device, flush=True)\n"
            f"Path('{empty_home}/gone').touch()\nmemory_broker.record_released({device!r})\ntime.sleep(60)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", text], cwd=ROOT, env={**ENVIRONMENT, "PALIMPSEST_HOME": str(empty_home)},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def needs(home: Path, device: str = "cpu") -> Callable[[], MemoryEstimate]:
    """3 GiB are needed; 2 are free, and 4 once the dashboard's are gone."""

    def estimate() -> MemoryEstimate:
        free = 4 if (home / "gone").exists() else 2
        return MemoryEstimate(needed=3 * GIB, free=free * GIB, device=device, what="Relearning", advice="Take less.")

    return estimate


def n_requests() -> int:
    with queue_store.reading() as connection:
        return connection.execute("SELECT count(*) FROM requests").fetchone()[0]


def test_where_it_fits_nobody_is_asked(job: Job, empty_home: Path, dashboard):
    dashboard()
    (empty_home / "gone").touch()
    memory_broker.wait_for_memory(needs(empty_home), job, pytest.fail)
    assert n_requests() == 0


@pytest.mark.parametrize(("held", "asked"), [("cpu", "cpu"), ("cuda:0", "cuda"), ("cuda:1", "cuda:1")])
def test_a_dashboard_makes_room(job: Job, empty_home: Path, dashboard, held: str, asked: str):
    process, said = dashboard(held), []
    memory_broker.wait_for_memory(needs(empty_home, asked), job, said.append)
    assert set(said) == {WAITING}
    assert process.stdout.readline().split() == [job.name, str(3 * GIB), held]
    assert n_requests() == 0


def test_without_a_dashboard_it_is_refused_at_once(job: Job, empty_home: Path, dashboard):
    begun = time.monotonic()
    refusal = r"Relearning needs about 3\.0 GiB; 2\.0 GiB are free on cpu\. Take less\."
    with pytest.raises(MemoryShortError, match=refusal):
        memory_broker.wait_for_memory(needs(empty_home), job, pytest.fail)
    dashboard("cuda:0")  # holds something, but elsewhere
    with pytest.raises(MemoryShortError, match=refusal):
        memory_broker.wait_for_memory(needs(empty_home), job, pytest.fail)
    assert time.monotonic() - begun < 10


def test_a_dead_dashboard_is_not_waited_for(job: Job, empty_home: Path, dashboard):
    process = dashboard(obeys=False)
    process.kill()
    process.wait()
    with pytest.raises(MemoryShortError):
        memory_broker.wait_for_memory(needs(empty_home), job, pytest.fail)
    memory_broker.record_held("cpu", 1)  # what this very process holds is its own affair
    with pytest.raises(MemoryShortError):
        memory_broker.wait_for_memory(needs(empty_home), job, pytest.fail)


def test_patience_ends(job: Job, empty_home: Path, dashboard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory_broker, "WAIT_SECONDS", 1.0)
    dashboard(obeys=False)
    said: list[str] = []
    begun = time.monotonic()
    with pytest.raises(MemoryShortError, match=r"2\.0 GiB are free"):
        memory_broker.wait_for_memory(needs(empty_home), job, said.append)
    assert 0.9 < time.monotonic() - begun < 5
    assert said
    assert n_requests() == 0


def test_it_is_stopped_while_it_waits(job: Job, empty_home: Path, dashboard):
    dashboard(obeys=False)
    with pytest.raises(StoppedError, match="while it waited for free memory"):
        memory_broker.wait_for_memory(needs(empty_home), job, lambda text: job.request_stop())
    assert n_requests() == 0


def test_requests_of_the_dead_are_not_answered(job: Job, empty_home: Path):
    text = (
        "from pathlib import Path\nfrom analysis.jobs import memory_broker\nfrom analysis.jobs.job import Job\n"
        f"with memory_broker._open_request('cpu', 5, Job(Path({str(job.path)!r}))): print('asked', flush=True), input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, env={**ENVIRONMENT, "PALIMPSEST_HOME": str(empty_home)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    wait(lambda: n_requests() == 1)
    assert [request.job for request in memory_broker.open_requests("cpu")] == [job.name]
    process.kill()
    process.wait()
    assert memory_broker.open_requests("cpu") == []
    with memory_broker._open_request("cpu", 5, job):
        assert n_requests() == 1  # what the dead left behind is gone


def test_an_unusable_queue_asks_nobody_but_decides(job: Job, empty_home: Path):
    (empty_home / "queue.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(MemoryShortError):
        memory_broker.wait_for_memory(needs(empty_home), job, pytest.fail)


def test_requests_to_a_queue_that_was_made_anew_are_not_taken_for_answered_ones(job: Job):
    """A dashboard remembers the numbers of those that it has answered."""

    def number() -> int:
        with memory_broker._open_request("cpu", 1, job):
            (request,) = memory_broker.open_requests("cpu")
        return request.number

    first = number()
    queue.rebuild()
    assert number() > first
