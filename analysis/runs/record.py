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
    """The interface that `RunDirectory` and `MemoryRun` share; summaries, figures and the canvas use nothing else."""

    @property
    def path(self) -> Path | None:
        """The run's folder; None for a run in memory."""
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
        """The chosen facts and components; None until the run has chosen them."""
        ...

    def n_snapshots(self) -> int:
        """Number of snapshots taken so far."""
        ...

    def snapshot(self, index: int) -> Snapshot:
        """The snapshot with this index, from 0.

        Raises:
            RunError: the snapshot does not exist or is damaged.
        """
        ...

    def snapshots(self, start: int = 0) -> list[Snapshot]:
        """The snapshots from index `start` on.

        Raises:
            RunError: a snapshot is damaged.
        """
        ...

    def events(self) -> list[dict[str, Any]]:
        """Progress reports in order, each with `time` and `kind`. “step” and “fine_tune_step” have `step`, `loss` (nats per
        token) and `seconds`; “stage” has `text`."""
        ...

    def status(self) -> JobStatus:
        """What the run is doing, or how it ended."""
        ...
