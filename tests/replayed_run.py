"""A finished run that is shown as if it were under way: its snapshots are taken away and come back one by one."""

from dataclasses import replace
from pathlib import Path

from analysis.jobs import JobStatus
from analysis.jobs.job import by_this_process
from analysis.runs import RunDirectory

__all__ = ["ReplayedRun"]


class ReplayedRun:
    """Hides the snapshots of a finished run, and publishes them again while this process counts as its worker.

    Args:
        run: The finished run; its control stays as it is.
        aside: A folder on the same file system, for the snapshots that are not published.
    """

    def __init__(self, run: RunDirectory, aside: Path):
        self._run, self._aside = run, aside
        self._finished = run.status()
        self._folder = run.path / "snapshots"
        self.count = run.n_snapshots()
        """Snapshots that there are in all."""

    def publish(self, count: int) -> None:
        """Let the run have its first `count` snapshots and be at work."""
        self._aside.mkdir(exist_ok=True)
        for index in range(self.count):
            name = f"{index:06d}.safetensors"
            shown, hidden = self._folder / name, self._aside / name
            if index < count and hidden.exists():
                hidden.rename(shown)
            elif index >= count and shown.exists():
                shown.rename(hidden)
        self._write(JobStatus(state="running", message="Replayed", step=count, snapshots=count))

    def finish(self) -> None:
        """Let the run have all its snapshots and be finished."""
        self.publish(self.count)
        self._write(self._finished)

    def _write(self, status: JobStatus) -> None:
        worker = by_this_process(self._run) if status.active else {}
        self._run.write_status(replace(status, **worker))
