"""Trains step by step, takes snapshots when they are due, and writes checkpoints to resume from."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from analysis.relearning.config import RelearnConfig
from analysis.relearning.snapshot import Earlier, Snapshot, StepReport
from analysis.relearning.tracking.cadence import Cadence, tracking_share
from analysis.relearning.tracking.tracker import Pending, Tracker
from analysis.relearning.trainer import Trainer

__all__ = ["TrainingLoop"]


class TrainingLoop:
    """Trains a model from its newest checkpoint, or from the start.

    A checkpoint is written after the snapshots of all earlier steps and before that of its own step. So a resumed run can
    lack only the snapshot of the checkpoint's step, and takes it first.
    """

    def __init__(
        self,
        config: RelearnConfig,
        trainer: Trainer,
        tracker: Tracker,
        clock: Callable[[], float],
        folder: Path | None,
        earlier: Earlier | None,
        on_step: Callable[[StepReport], None] | None,
    ):
        """Load the newest checkpoint in `folder`, if there is one.

        Raises:
            EditError: the checkpoint is damaged, or belongs to another edit, other texts, weights or settings.
        """
        self.config, self.trainer, self.tracker = config, trainer, tracker
        self.clock, self.folder, self.on_step = clock, folder, on_step
        self.taken = frozenset(earlier.steps if earlier else ())
        share = tracking_share(config.tracking_share, trainer.model.device.type) * config.snapshot_density
        self.cadence = Cadence(config.snapshot_steps, share if config.cadence == "adaptive" else None)
        self.cadence.last = tracker.cost
        self.losses: dict[int, float] = {}
        """Step -> loss, for the steps since the last snapshot."""
        self.pending: list[Pending] = []
        if folder is not None:
            self._load(folder)

    def run(self, should_stop: Callable[[], bool]) -> Iterator[Snapshot]:
        """Train to the last step, or until `should_stop` returns True after a step, which then gets a snapshot."""
        steps = self.config.steps
        if self.trainer.done:
            # a worker may have died between a checkpoint and the snapshot of the same step
            yield from self._look(self.trainer.done, due=self.cadence.due(self.trainer.done))
        while self.trainer.done < steps:
            begun = time.perf_counter()
            self._report(self.trainer.step())
            step, stopping = self.trainer.done, should_stop()
            self.cadence.training += time.perf_counter() - begun
            if self._keeps(step) or stopping:
                yield from self._arrived(wait=True)
                self._keep()
            yield from self._look(step, due=stopping or self.cadence.due(step))
            if stopping:
                break
        yield from self._arrived(wait=True)

    def _look(self, step: int, *, due: bool) -> Iterator[Snapshot]:
        """Take a snapshot of `step` if it is due and was not taken before, and yield snapshots that have arrived."""
        if step in self.taken:
            self._report(self.trainer.arrived(wait=True))
            self.losses = {at: loss for at, loss in self.losses.items() if at > step}
        elif due and step > max(self.taken, default=0):
            self.pending.append(self.tracker.take("training", step))
        yield from self._arrived()

    def _arrived(self, *, wait: bool = False) -> Iterator[Snapshot]:
        if wait:
            self._report(self.trainer.arrived(wait=True))
        while self.pending and (wait or self.pending[0].ready()):
            one = self.pending.pop(0)
            self._report(self.trainer.arrived())  # losses of the steps before the snapshot have arrived with it
            since = [loss for at, loss in self.losses.items() if at <= one.step]
            self.losses = {at: loss for at, loss in self.losses.items() if at > one.step}
            begun = time.perf_counter()
            yield one.snapshot(float(np.mean(since)) if since else None)
            # includes the caller's time, which writes the snapshot to the disk
            self.cadence.tracked(one.stopwatch.seconds() + time.perf_counter() - begun)

    def _report(self, arrived: list[tuple[int, float]]) -> None:
        for step, loss in arrived:
            self.losses[step] = loss
            if self.on_step:
                self.on_step(StepReport(step, loss, self.clock()))

    def _keeps(self, step: int) -> bool:
        every = self.config.checkpoint_every
        return self.folder is not None and (step == self.config.steps or (every > 0 and step % every == 0))

    def _keep(self) -> None:
        if self.folder is None:
            return
        details = {
            "losses": list(self.losses.items()),
            "training": self.cadence.training,
            "tracking": self.cadence.tracking,
            "last": self.cadence.last,
        }
        self.trainer.save(self.folder, details, keep=self.config.keep_checkpoints)

    def _load(self, folder: Path) -> None:
        state = self.trainer.resume(folder)
        if state is None:
            return
        self.losses = {int(step): float(loss) for step, loss in state.details["losses"]}
        self.cadence.training, self.cadence.tracking, self.cadence.last = (
            state.details[name] for name in ("training", "tracking", "last")
        )
