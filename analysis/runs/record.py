"""Interface of a run, whether it lies in a folder or in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from analysis.concepts import Concept
from analysis.jobs import JobStatus
from analysis.relearning import RelearnConfig, RunFacts, Snapshot

__all__ = ["RunRecord"]


@runtime_checkable
class RunRecord(Protocol):
    """The questions that `RunDirectory` and `MemoryRun` answer; summaries, figures and the canvas ask nothing else."""

    @property
    def path(self) -> Path | None:
        """Its folder; None in memory."""
        ...

    @property
    def config(self) -> RelearnConfig: ...

    @property
    def created(self) -> str:
        """ISO time of creation, UTC."""
        ...

    @property
    def control(self) -> "RunRecord | None":
        """The same training without the edit, once it has begun."""
        ...

    def concepts(self) -> Mapping[str, Concept]:
        """The tracked concepts, by name."""
        ...

    def facts(self) -> RunFacts | None:
        """The facts and components that were chosen; None before the run got that far."""
        ...

    def n_snapshots(self) -> int:
        """Snapshots taken so far."""
        ...

    def snapshot(self, index: int) -> Snapshot:
        """One of them.

        Raises:
            RunError: it does not exist or is damaged.
        """
        ...

    def snapshots(self, start: int = 0) -> list[Snapshot]:
        """Those from number `start` on."""
        ...

    def events(self) -> list[dict[str, Any]]:
        """What was reported on the way: `kind` “step” with `step`, `loss` and `seconds`, “stage” with `text`."""
        ...

    def status(self) -> JobStatus:
        """What it is doing, or how it ended."""
        ...
