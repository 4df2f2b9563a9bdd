"""Carries out a run in memory, on copies of a loaded model, and saves it as a folder on request.

`MemoryRun` and `RunDirectory` share the interface `record.RunRecord`.
"""

import gc
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from analysis import paths, relearning, runs
from analysis.concepts import Concept, Sentence, text_files
from analysis.errors import RunError
from analysis.jobs import JobStatus, layout
from analysis.models import LanguageModel
from analysis.models.copying import copy_model
from analysis.relearning import Beginning, RelearnConfig, RunFacts, Snapshot, StepReport
from analysis.relearning.resources import ModelSize, memory_estimate
from analysis.runs.directory import RunDirectory

__all__ = ["MemoryRun", "run_in_memory"]

Report = Callable[[str, int], None]
"""Called with the current stage and the training steps done in it."""


class MemoryRun:
    """A run and its results, without a folder."""

    path: Path | None = None

    def __init__(self, config: RelearnConfig, concepts: Mapping[str, Concept], text: Sequence[str] = ()):
        self.config = config
        self.created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.control: MemoryRun | None = None
        self.model: LanguageModel | None = None
        """The model as the run left it: edited and retrained."""
        self.text = tuple(text)
        """Lines of the text that the configuration names, as they were read."""
        self._concepts = dict(concepts)
        self._facts: RunFacts | None = None
        self._snapshots: list[Snapshot] = []
        self._events: list[dict[str, Any]] = []
        self._status = JobStatus(state="running", message="Starting")

    def concepts(self) -> dict[str, Concept]:
        return dict(self._concepts)

    def facts(self) -> RunFacts | None:
        return self._facts

    def n_snapshots(self) -> int:
        return len(self._snapshots)

    def snapshots(self, start: int = 0) -> list[Snapshot]:
        return self._snapshots[start:]

    def snapshot(self, index: int) -> Snapshot:
        if not 0 <= index < len(self._snapshots):
            raise RunError(f"There is no snapshot {index}: the run has {len(self._snapshots)}.")
        return self._snapshots[index]

    def events(self) -> list[dict[str, Any]]:
        return list(self._events)

    def status(self) -> JobStatus:
        return self._status

    def save(self, path: Path) -> RunDirectory:
        """Write the run into a new folder, which the dashboard and the command line can read.

        The state of the training is not kept, so the saved run can be viewed but not continued.

        Raises:
            RunError: `path` exists and is not empty, cannot be written, or the run has no snapshot yet.
        """
        if self._facts is None:
            raise RunError("The run has found nothing yet, so there is nothing to save.")
        saved = runs.create(self.config, path, concepts=self._concepts, fill=self._store_text)
        try:
            self._write(saved)
            if self.control is not None:
                folder = saved.path / layout.CONTROL
                self.control._write(
                    runs.create(self.control.config, folder, concepts=self._concepts, fill=self._store_text)
                )
        except BaseException as error:
            shutil.rmtree(saved.path, ignore_errors=True)
            if isinstance(error, OSError):
                raise RunError(f"{path} cannot be written ({error.strerror}). Name another folder.") from error
            raise
        return saved

    def _store_text(self, folder: Path) -> None:
        """Store the text that was trained on: its file may have changed since."""
        if self.text:
            text_files.store(folder / layout.TEXT, self.text)

    def _write(self, saved: RunDirectory) -> None:
        assert self._facts is not None  # `save` checks it; a control begins after its run has facts
        saved.write_facts(self._facts)
        for snapshot in self._snapshots:
            saved.write_snapshot(snapshot)
        lines = "".join(json.dumps(event) + "\n" for event in self._events)
        paths.write_atomically(saved.path / layout.EVENTS, lines.encode())
        record = saved.record | {"created": self.created, layout.FROM_MEMORY: True}
        paths.write_atomically(saved.path / layout.CONFIG, json.dumps(record, indent=2).encode())
        saved.write_status(self._status)

    def _execute(
        self,
        model: LanguageModel,
        *,
        beginning: Beginning | None,
        neutral: tuple[Sentence, ...] | None,
        report: Report,
    ) -> None:
        """Execute the run on `model`, whose weights change; after an interrupt the snapshots so far are kept, as if stopped."""
        began, done = time.monotonic(), 0

        def chosen(found: RunFacts) -> None:
            self._facts = found

        def stage(what: str) -> None:
            self._note("stage", text=what)
            report(what, done)

        def step(made: StepReport) -> None:
            nonlocal done
            done = made.step
            self._note("step", step=made.step, loss=made.loss, seconds=made.seconds)
            report("Relearning", done)

        def tuned(made: StepReport) -> None:
            self._note("fine_tune_step", step=made.step, loss=made.loss, seconds=made.seconds)
            report(f"Fine-tuning: step {made.step} of {self.config.fine_tune_steps}", 0)

        # Must be set before CUDA starts, for deterministic matrix products.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        state, message = "finished", "Finished"
        try:
            for snapshot in relearning.run(
                self.config,
                model=model,
                concepts=self._concepts,
                neutral=neutral,
                text=self.text,
                beginning=beginning,
                on_facts=chosen,
                on_step=step,
                on_fine_tune=tuned,
                on_progress=stage,
            ):
                self._snapshots.append(snapshot)
        except KeyboardInterrupt:
            if not self._snapshots:
                raise
            state, message = "stopped", "Interrupted"
        self._status = JobStatus(
            state=state,
            message=message,
            step=done,
            snapshots=len(self._snapshots),
            device=str(model.device),
            heartbeat=time.time(),
            seconds=time.monotonic() - began,
        )

    def _note(self, kind: str, **details: Any) -> None:
        self._events.append({"time": time.time(), "kind": kind, **details})


def run_in_memory(
    model: LanguageModel,
    config: RelearnConfig,
    *,
    concepts: Mapping[str, Concept],
    neutral: tuple[Sentence, ...] | None = None,
    text: Sequence[str] = (),
    report: Report | None = None,
) -> MemoryRun:
    """Execute a run, and its control if the configuration asks for one, on copies of `model`, which is not changed.

    Args:
        model: The unedited model, in float32.
        config: Configuration of the run; its `model` is only a name here.
        concepts: All concepts that `config` tracks, by name.
        neutral: Neutral sentences, instead of the built-in ones.
        text: Lines of the text that `config.text` names.
        report: Called with the current stage and the training steps done in it.

    Raises:
        PalimpsestError: the model or a concept cannot be used, or there is too little memory.
    """
    report = report or (lambda what, step: None)
    memory_estimate(config, ModelSize.of(model), str(model.device)).check()
    run = MemoryRun(config, concepts, text)
    run.model = copy_model(model)
    run._execute(run.model, beginning=None, neutral=neutral, report=report)
    if config.control and config.edit is not None and run.status().state == "finished":
        found = run.facts()
        assert found is not None  # it was reported before the first snapshot
        beginning = Beginning(table=found.table, base=run.snapshot(0), followed=found.followed)
        gc.collect()  # free the memory of the run's training before the control takes as much
        run.control = MemoryRun(config.as_control(), concepts, text)
        run.control._execute(
            copy_model(model),
            beginning=beginning,
            neutral=neutral,
            report=lambda what, step: report(f"control: {what}", step),
        )
    gc.collect()
    return run
