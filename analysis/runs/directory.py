"""Reads and writes one run's folder; anyone may read it while a worker writes. Its layout is in `runs.library`."""

import json
import logging
import os
import re
import time
from dataclasses import replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from analysis import paths
from analysis.concepts import Concept, Fact, files, text_files
from analysis.errors import ConfigError, RunError
from analysis.jobs import Job, layout
from analysis.jobs.job import is_alive, read_json
from analysis.relearning import Beginning, Earlier, RelearnConfig, RunFacts, Snapshot
from analysis.runs.files import Moment, read_facts, read_moment, read_snapshot, write_facts, write_snapshot
from analysis.training.checkpoint import saved_steps
from analysis.training.schedule import learning_share

__all__ = ["RunDirectory"]

_log = logging.getLogger(__name__)
_SNAPSHOT = re.compile(r"[0-9]{6}\.safetensors")
_CONTROL_BEGINS = 60.0
"""Seconds after the end of its run within which a control begins."""
_STEPS = ("fine_tune_step", "step")
"""Kinds of events that a resumed run may write again for the same step."""


class RunDirectory(Job):
    """A run's folder. Anyone may read it; the writing methods are for its worker."""

    kept = "The snapshots up to here are kept"

    def __init__(self, path: Path):
        super().__init__(path)
        self._config: RelearnConfig | None = None
        if not (path / layout.CONFIG).is_file():
            raise RunError(f"{path} is not a run: it has no config.json.")

    @property
    def record(self) -> dict[str, Any]:
        """The whole of config.json: configuration, versions, creation time."""
        return read_json(self.path / layout.CONFIG)

    @property
    def config(self) -> RelearnConfig:
        if self._config is None:
            settings = self.record.get("config", {})
            if not isinstance(settings, dict):
                raise RunError(f"{self.path / layout.CONFIG} is damaged: its “config” is not a JSON object.")
            self._config = RelearnConfig.from_dict(settings)
        return self._config

    @property
    def created(self) -> str:
        """ISO time of creation, UTC."""
        return str(self.record.get("created", ""))

    @property
    def control(self) -> "RunDirectory | None":
        """The control run, once it has begun."""
        path = self.path / layout.CONTROL
        return RunDirectory(path) if (path / layout.CONFIG).is_file() else None

    def has_control(self) -> bool:
        """Whether the configuration asks for a control run, begun or not."""
        return self.config.control and self.config.edit is not None

    def control_is_due(self) -> bool:
        """Whether the worker is between this run and its control."""
        status = self.status()
        if status.state != "finished" or not self.has_control() or self.control is not None or self.stop_requested():
            return False
        # if the control cannot begin, the same process goes on to the next job
        return is_alive(status) and time.time() - status.heartbeat < _CONTROL_BEGINS

    @property
    def fine_tuned(self) -> Path:
        """Folder of the fine-tuned model that the run begins with; a control shares that of its run."""
        of_run = self.path.parent
        is_control = self.path.name == layout.CONTROL and (of_run / layout.CONFIG).is_file()
        return (of_run if is_control else self.path) / layout.FINE_TUNED

    def concepts(self) -> dict[str, Concept]:
        """The concepts stored with the run."""
        return {name: files.read(layout.concept_file(self.path, name)) for name in self.config.tracked}

    def facts(self) -> RunFacts | None:
        """The facts, components and digests of the run; None until it has chosen them.

        Raises:
            RunError: the file is damaged.
        """
        return read_facts(self.path / layout.FACTS, self.facts_by_name())

    def facts_by_name(self) -> dict[str, Fact]:
        """The concept's facts by name."""
        concept = self.concepts()[self.config.concept]
        return dict(zip(concept.fact_names(), concept.facts))

    def n_snapshots(self) -> int:
        """Number of stored snapshots; missing files in between do not count."""
        return len(self._snapshot_numbers())

    def snapshots(self, start: int = 0) -> list[Snapshot]:
        """All stored snapshots from index `start` on.

        Raises:
            RunError: a snapshot file is damaged; the message names it.
        """
        return [self._read(index, path) for index, path in enumerate(self._snapshot_paths()) if index >= start]

    def snapshot(self, index: int) -> Snapshot:
        """One snapshot; `index` counts the stored ones, from 0.

        Raises:
            RunError: the snapshot does not exist or is damaged.
        """
        return self._read(index, self._snapshot_path(index))

    def moments(self) -> list[Moment]:
        """Phase, step and time of the stored snapshots, without reading their arrays.

        Raises:
            RunError: a snapshot file is damaged; the message names it.
        """
        return [read_moment(path) for path in self._snapshot_paths()]

    def is_complete(self) -> bool:
        """Whether the last step has its snapshot, which is written after its checkpoint; the control does not matter."""
        found = self._snapshot_paths()
        return len(found) > 1 and read_moment(found[-1]).step == self.config.steps

    def checkpoints(self) -> tuple[int, ...]:
        """Steps with a checkpoint, ascending: the run can resume or branch from them."""
        return saved_steps(self.path / layout.CHECKPOINTS)

    def earlier(self) -> Earlier | None:
        """What an interrupted run has left to resume from; None if it begins from the start."""
        found, moments = self.facts(), self.moments()
        if found is None or not moments:
            return None
        return Earlier(
            beginning=Beginning(
                table=found.table,
                base=self.snapshot(0),
                followed=found.followed,
                digests=found.digests,
                precision=found.precision,
            ),
            n_snapshots=len(moments),
            steps=tuple(moment.step for moment in moments if moment.phase == "training"),
            seconds=moments[-1].seconds,
        )

    def text(self) -> tuple[str, ...]:
        """Lines of the further text to train on; a hub data set is fetched and stored at the first call.

        Raises:
            PalimpsestError: the text cannot be read.
        """
        if not self.config.text:
            return ()
        path = self.path / layout.TEXT
        if not path.is_file():
            text_files.store(path, text_files.read(self.config.text))
        return text_files.load(path)

    def events(self) -> list[dict[str, Any]]:
        """All complete events of the log; of a step that was done twice, only the last.

        Lines left incomplete by a full disk or a dead worker, and lines that are not events, are left out.
        """
        try:
            lines = (self.path / layout.EVENTS).read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        except FileNotFoundError:
            return []
        found: list[dict[str, Any]] = []
        place: dict[tuple[str, int], int] = {}
        for line in lines:
            event = _event(line)
            if event is None:
                continue
            if event["kind"] in _STEPS:
                key = event["kind"], event["step"]
                if key in place:
                    found[place[key]] = event
                    continue
                place[key] = len(found)
            found.append(event)
        return found

    def end_events_line(self) -> None:
        """End a line of the event log that a worker left unfinished, so that the next event begins a new line."""
        try:
            with (self.path / layout.EVENTS).open("rb+") as file:
                if file.seek(0, 2) and (file.seek(-1, 2), file.read(1))[1] != b"\n":
                    file.write(b"\n")
        except FileNotFoundError:
            return

    def reread(self) -> None:
        """Read the configuration again at the next access: another process may have changed it."""
        self._config = None

    def steps_done(self) -> int:
        """The last step that has a checkpoint or a snapshot; 0 if none has."""
        return max((*self.checkpoints(), *(moment.step for moment in self.moments())), default=0)

    def check_steps(self, steps: int) -> RelearnConfig:
        """The configuration with `steps` steps in all; nothing is changed.

        Raises:
            ConfigError: no more than `steps_done`, or does not fit the other settings.
        """
        changed = RelearnConfig.from_dict({**self.record["config"], "steps": steps})
        done = self.steps_done()
        if steps <= done:
            raise ConfigError(f"{done} steps are done already. Give more than that.")
        return changed

    def set_steps(self, steps: int) -> None:
        """Set the total number of steps; config.json also records the old number.

        The steps after the newest checkpoint are done again. If the learning rate of any of them changes, their snapshots
        and events are removed.

        Raises:
            ConfigError: no more than `steps_done`, or does not fit the other settings.
        """
        record, changed = self.record, self.check_steps(steps)
        self._remove_repeated_steps(changed)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        continued = [*record.get("continued", ()), {"from": self.config.steps, "to": steps, "at": now}]
        record |= {"config": changed.to_dict(), "continued": continued}
        paths.write_atomically(self.path / layout.CONFIG, json.dumps(record, indent=2).encode())
        self._config = None

    def _remove_repeated_steps(self, changed: RelearnConfig) -> None:
        """Remove snapshots and events of steps that will be done again at another learning rate."""
        before, kept = self.config, max(self.checkpoints(), default=0)
        moments, events = self.moments(), self.events()
        done = max(
            (*(one.step for one in moments), *(one["step"] for one in events if one["kind"] == "step")), default=0
        )
        if all(_share(before, step) == _share(changed, step) for step in range(kept + 1, done + 1)):
            return
        for moment, path in reversed(list(zip(moments, self._snapshot_paths()))):  # last one first, to leave no gap
            if moment.step > kept:
                path.unlink()
        left = [one for one in events if one["kind"] != "step" or one["step"] <= kept]
        lines = "".join(json.dumps(one) + "\n" for one in left)
        paths.write_atomically(self.path / layout.EVENTS, lines.encode())

    def write_facts(self, found: RunFacts) -> None:
        write_facts(self.path / layout.FACTS, found, self.facts_by_name())

    def write_snapshot(self, snapshot: Snapshot) -> None:
        write_snapshot(self._snapshot_path(snapshot.index), snapshot)

    def _read(self, index: int, path: Path) -> Snapshot:
        return replace(read_snapshot(path, self.config.tracked), index=index)

    def _snapshot_numbers(self) -> list[int]:
        """The numbers of the snapshots' files, in order.

        A missing file in between is left out, and the indices of later ones move up by one. Only number 0, of the unedited
        model, is always included: nothing can be compared without it.
        """
        found = self._listed()
        if not found or len(found) == found[-1] + 1:
            return found
        found = sorted({0, *found, *self._listed()})  # a file may have been added while the folder was listed
        if missing := found[-1] + 1 - len(found):
            first = next(i for i, number in enumerate(found) if i != number)
            _tell_of_missing(self.path / layout.SNAPSHOTS, missing, self._numbered(first).name)
        return found

    def _listed(self) -> list[int]:
        folder = self.path / layout.SNAPSHOTS
        names = os.listdir(folder) if folder.is_dir() else []
        return sorted(int(name[:6]) for name in names if _SNAPSHOT.fullmatch(name))

    def _snapshot_path(self, index: int) -> Path:
        """Path of a snapshot; a new one comes after the last file, whatever is missing before it."""
        found = self._snapshot_numbers()
        if 0 <= index < len(found):
            return self._numbered(found[index])
        return self._numbered(found[-1] + 1 if found else index)

    def _snapshot_paths(self) -> list[Path]:
        return [self._numbered(number) for number in self._snapshot_numbers()]

    def _numbered(self, number: int) -> Path:
        return layout.snapshot_file(self.path, number)


@cache
def _tell_of_missing(folder: Path, count: int, first: str) -> None:
    """Log missing snapshots, once per process and run (by `cache`)."""
    _log.warning("%s lacks %d snapshots, the first is %s: the run is shown without them.", folder, count, first)


def _share(config: RelearnConfig, step: int) -> float | None:
    """The factor on the learning rate at a step; None for a step that the run does not have."""
    return learning_share(config.schedule, step, config.steps, config.warmup) if step <= config.steps else None


def _event(line: str) -> dict[str, Any] | None:
    """The event in a line of the log; None if the line is not an event."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
        return None
    return event if event["kind"] not in _STEPS or isinstance(event.get("step"), int) else None
