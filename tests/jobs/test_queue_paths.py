"""A home or a run that is reached through symbolic links, a home that moved, and names with spaces and other letters."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.testing

from analysis.cli import app
from analysis.errors import RunError
from analysis.jobs import Job, queue, queue_rules
from tests.jobs.queue_line import ENVIRONMENT, ROOT, Line, opened, seen, stand_in, wait


@pytest.fixture
def line(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """No worker comes by itself."""
    monkeypatch.setattr(queue_rules, "_start", lambda device: None)
    yield from opened(empty_home)


def grown_old(job: Job) -> None:
    """As if the job had said long ago that it is queued."""
    path = job.path / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"heartbeat": time.time() - 60}))


@pytest.mark.parametrize("home", [True, False], ids=["a link to the home", "a link to the run"])
def test_a_job_is_the_same_by_whatever_path(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: bool):
    job, link = line.submit("first"), tmp_path / "link"
    grown_old(job)
    link.symlink_to(line.home if home else job.path)
    same = Job(link / "runs" / "first" if home else link)
    assert (same.status().state, same.status().message) == ("queued", "1st in the queue")
    assert queue.place(same.path) == 1
    with pytest.raises(RunError, match="in the queue already"):
        queue.submit(same.path, "nap", "cpu")
    with pytest.raises(RunError, match="in the queue already"), queue.turn(same.path, "nap", "cpu", say=pytest.fail):
        pytest.fail("it has begun")
    if home:
        monkeypatch.setenv("PALIMPSEST_HOME", str(link))
    assert len(queue.entries()) == 1
    assert queue.cancel(same.path)
    assert (queue.entries(), job.status().state) == ([], "stopped")


def test_a_job_submitted_through_a_link_is_found_without(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "link").symlink_to(line.home)
    monkeypatch.setenv("PALIMPSEST_HOME", str(tmp_path / "link"))
    job = line.job("first")
    queue.submit(tmp_path / "link" / "runs" / "first", "nap", "cpu")
    grown_old(job)
    monkeypatch.setenv("PALIMPSEST_HOME", str(line.home))
    assert job.status().message == "1st in the queue"
    queue.rebuild()
    assert [entry.path for entry in queue.entries()] == [job.path]
    assert queue.cancel(job.path)


def test_a_home_that_moved_behind_a_link_while_a_job_was_queued(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    line.submit("first")
    old = line.home
    new = old.rename(tmp_path / "elsewhere")
    old.symlink_to(new)
    grown_old(Job(new / "runs" / "first"))
    for path in (old / "runs" / "first", new / "runs" / "first"):
        assert Job(path).status().message == "1st in the queue"
        with pytest.raises(RunError, match="in the queue already"):
            queue.submit(path, "nap", "cpu")
    assert queue.cancel(new / "runs" / "first")
    assert queue.entries() == []


def test_the_command_line_cancels_by_any_name(line: Line, tmp_path: Path):
    runner = typer.testing.CliRunner()
    (line.home / "runs").mkdir()
    (line.home / "runs" / "alias").symlink_to("first")
    (tmp_path / "link").symlink_to(line.home)
    job = line.job("first")
    for name in ("alias", "first", str(tmp_path / "link" / "runs" / "first"), str(job.path)):
        queue.submit(job.path, "nap", "cpu")
        runner.invoke(app, ["queue", "--cancel", name], catch_exceptions=False)
        assert queue.entries() == [], name


def test_a_home_with_spaces_and_other_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Submitted, served by a worker and listed, under the plainest of locales."""
    home = tmp_path / "My räume “π” %d"
    monkeypatch.setenv("PALIMPSEST_HOME", str(home))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setattr(queue_rules, "command", stand_in)
    for line in opened(home):
        job = line.submit("ein Lauf ✓")
        wait(lambda: not queue.entries())
        assert job.status().state == "finished"
        assert seen(job)["times"] == 1
        (job.path / "job.json").write_text(json.dumps({"seconds": 60, "then": ""}))
        queue.submit(job.path, "nap", "cpu")
        done = subprocess.run(
            [sys.executable, "-m", "analysis", "queue", "--cancel", job.name, "--json"], cwd=ROOT, timeout=60, text=True,
            env={**ENVIRONMENT, "PALIMPSEST_HOME": str(home), "LC_ALL": "C"}, capture_output=True, check=True,
        )  # fmt: skip
        for row in json.loads(done.stdout.splitlines()[-1])["queue"]:
            assert row["path"] == str(job.path)
        wait(lambda: not queue.entries())
        assert job.status().state == "stopped"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of another kind")
def test_a_worker_in_a_home_that_cannot_be_written_says_so_and_ends():
    """As a user who may not write there: root may write anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        text = (
            "import os, sys\nfrom analysis import worker\nif os.getuid() == 0: os.setuid(65534)\n"
            "sys.argv = ['worker', '--device', 'cpu']\nsys.exit(worker.main())"
        )
        for path in (home, Path(folder)):
            path.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=ROOT, env={**ENVIRONMENT, "PALIMPSEST_HOME": str(home)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        for path in (Path(folder), home):
            path.chmod(0o755)
        assert done.returncode == 2, done.stderr
        assert "Make the file and its folder writable" in done.stderr
        assert "Traceback" not in done.stderr
        assert list(home.iterdir()) == []
