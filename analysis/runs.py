"""Runs on disk: a directory that a worker writes and anyone may read at the same time.

    RUN/config.json               configuration, package versions, creation time; never changes
    RUN/concepts/NAME.jsonl       the very concepts the run uses
    RUN/facts.json                the facts chosen, the components edited, digests (written at the start)
    RUN/snapshots/000003.safetensors   one a snapshot, written atomically; numbers are in its metadata
    RUN/control/                  the control run, of the same shape

Status, events and stopping are those of every job (`jobs`).
"""

import itertools
import json
import platform
import shutil
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from analysis import concepts as concept_library
from analysis import paths, queue
from analysis.concepts import Concept, Fact, dump_jsonl, files
from analysis.errors import RunError
from analysis.jobs import Job, read_json
from analysis.records import RunFacts, read_facts, read_snapshot, write_facts, write_snapshot
from analysis.relearn import RelearnConfig, RunStart, Snapshot

__all__ = [
    "RunDirectory",
    "RunFacts",
    "create",
    "created",
    "find",
    "list_runs",
    "new_path",
    "start",
]
_VERSIONED = ("torch", "transformers", "transformer-lens", "numpy", "safetensors")


class RunDirectory(Job):
    """Reads a run; the writing methods are for its worker."""

    kept = "The snapshots up to here are kept"

    def __init__(self, path: Path):
        super().__init__(path)
        self._config: RelearnConfig | None = None
        if not (path / "config.json").is_file():
            raise RunError(f"{path} is no run: it has no config.json.")

    @property
    def record(self) -> dict[str, Any]:
        """The whole of config.json: configuration, versions, creation time."""
        return read_json(self.path / "config.json")

    @property
    def config(self) -> RelearnConfig:
        if self._config is None:
            self._config = RelearnConfig.from_dict(self.record.get("config", {}))
        return self._config

    @property
    def created(self) -> str:
        """ISO time of creation, UTC."""
        return str(self.record.get("created", ""))

    @property
    def control(self) -> "RunDirectory | None":
        """The control run, once it has begun."""
        path = self.path / "control"
        return RunDirectory(path) if (path / "config.json").is_file() else None

    def concepts(self) -> dict[str, Concept]:
        """The concepts stored with the run."""
        return {name: files.read(self.path / "concepts" / f"{name}.jsonl") for name in self.config.tracked}

    def facts(self) -> RunFacts | None:
        """What the run found at its start; None before it got that far."""
        return read_facts(self.path / "facts.json", self._facts())

    def _facts(self) -> dict[str, Fact]:
        """The concept's facts by their names in it."""
        concept = self.concepts()[self.config.concept]
        return dict(zip(concept.fact_names(), concept.facts))

    def n_snapshots(self) -> int:
        """Number of committed snapshots."""
        folder = self.path / "snapshots"
        return sum(1 for _ in folder.glob("*.safetensors")) if folder.is_dir() else 0

    def snapshots(self, start: int = 0) -> list[Snapshot]:
        """All committed snapshots from index `start` on.

        Raises:
            RunError: a snapshot file is damaged; names it.
        """
        return [self.snapshot(index) for index in range(start, self.n_snapshots())]

    def snapshot(self, index: int) -> Snapshot:
        """One snapshot.

        Raises:
            RunError: it does not exist or is damaged.
        """
        return read_snapshot(self._snapshot_path(index), self.config.tracked)

    def write_start(self, found: RunStart) -> None:
        write_facts(self.path / "facts.json", found, self._facts())

    def write_snapshot(self, snapshot: Snapshot) -> None:
        write_snapshot(self._snapshot_path(snapshot.index), snapshot)

    def _snapshot_path(self, index: int) -> Path:
        return self.path / "snapshots" / f"{index:06d}.safetensors"


def create(
    config: RelearnConfig, path: Path, *, concepts: Mapping[str, Concept] | None = None, title: str = ""
) -> RunDirectory:
    """Make a run directory that is complete but not started. Nothing is left behind if this fails.

    Raises:
        RunError: `path` exists and is not empty, or cannot be written.
        ConceptError: a tracked concept is unknown.
    """
    known = {name: (concepts or {}).get(name) or concept_library.load(name) for name in config.tracked}
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} already exists and is not empty. Name a new folder for the run.")
    record = {
        "title": title or config.describe(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "config": config.to_dict(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _VERSIONED}},
    }
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}). Name another folder.") from error
    try:
        staging.chmod(0o755)  # mkdtemp is private, a run is to be read by others
        (staging / "concepts").mkdir()
        for name, concept in known.items():
            (staging / "concepts" / f"{name}.jsonl").write_text(dump_jsonl(concept))
        (staging / "config.json").write_text(json.dumps(record, indent=2))
        staging.rename(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}). Name another folder.") from error
    finally:
        if staging.is_dir():
            shutil.rmtree(staging)
    return RunDirectory(path)


def new_path(config: RelearnConfig) -> Path:
    """A path for a new run under the runs folder, named after the time and the concept."""
    paths.runs_root().mkdir(parents=True, exist_ok=True)
    stem = f"{datetime.now(timezone.utc).strftime('%Y%m%d-%H%M%S')}-{config.concept}"
    candidates = (paths.runs_root() / (stem + (f"-{i + 1}" if i else "")) for i in itertools.count())
    return next(path for path in candidates if not path.exists())


def start(config: RelearnConfig, *, concepts: Mapping[str, Concept] | None = None, owner: str = "") -> RunDirectory:
    """Create a run under the runs folder and put it into the queue of its device, whose worker outlives this process.

    Raises:
        ConfigError: the device does not exist here; nothing is left behind.
    """
    queue.device_of(config.device)
    run = _create_somewhere(config, concepts)
    queue.submit(run.path, "run", config.device, owner)
    return run


def _create_somewhere(config: RelearnConfig, concepts: Mapping[str, Concept] | None) -> RunDirectory:
    """A run under the runs folder; another session may take its name in the meantime, then the next one is tried."""
    for _ in range(20):
        path = new_path(config)
        try:
            return create(config, path, concepts=concepts)
        except RunError:
            if not path.exists():
                raise
    raise RunError("Too many runs are being started at once. Try again.")


def list_runs(root: Path | None = None) -> list[RunDirectory]:
    """All runs under `root` (default: the runs folder), newest first; one whose config.json is damaged comes last."""
    root = root or paths.runs_root()
    found = [RunDirectory(path.parent) for path in root.glob("*/config.json") if not path.parent.name.startswith(".")]
    return sorted(found, key=lambda run: (created(run), run.name), reverse=True)


def created(run: RunDirectory) -> str:
    """When a run was made (ISO time, UTC); empty where its config.json is damaged."""
    try:
        return run.created
    except RunError:
        return ""


def find(reference: str) -> RunDirectory:
    """A run by its name in the runs folder or by its path.

    Raises:
        RunError: there is no such run.
    """
    for path in (Path(reference).expanduser(), paths.runs_root() / Path(reference).name):
        if (path / "config.json").is_file():
            return RunDirectory(path)
    raise RunError(f"There is no run “{reference}”. `python -m analysis runs` lists them; a run's path works too.")
