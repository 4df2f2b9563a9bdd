"""Creates, lists and finds runs on disk: folders that a worker writes and anyone may read at the same time.

    RUN/config.json               configuration, package versions, creation time; changes only when steps are added
    RUN/concepts/NAME.jsonl       copies of the concepts the run uses
    RUN/text.jsonl                the further text it trains on (if any)
    RUN/fine_tuned/               the model it begins with, if that was fine-tuned (`relearning.fine_tuning`)
    RUN/origin/                   what a branch begins with (`relearning.branch_weights`)
    RUN/facts.json                the facts chosen, the components edited, digests (written at the start)
    RUN/edits/0000.safetensors    what the edit changed, bit by bit
    RUN/snapshots/000003.safetensors   one snapshot, written atomically; scalars and words are in its metadata
    RUN/checkpoints/step-000050.safetensors   the state of the training, to resume from
    RUN/control/                  the control run, with the same layout

Status, events and stopping work as for every job (`jobs`).
"""

import itertools
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from analysis import concepts as concept_library
from analysis import paths
from analysis.concepts import Concept, dump_jsonl, text_files
from analysis.errors import RunError
from analysis.jobs import layout, queue
from analysis.relearning import RelearnConfig, check_concept
from analysis.runs.directory import RunDirectory

__all__ = [
    "RunDirectory",
    "create",
    "create_in_home",
    "created",
    "find",
    "list_runs",
    "new_path",
    "start",
]
_OF_RUNS = (layout.STATUS, layout.SNAPSHOTS, layout.CONCEPTS)
"""Files that tell a run with a damaged config.json from another folder with a config.json, such as a model's."""
_VERSIONED = ("torch", "transformers", "transformer-lens", "numpy", "safetensors")


def create(
    config: RelearnConfig,
    path: Path,
    *,
    concepts: Mapping[str, Concept] | None = None,
    title: str = "",
    fill: Callable[[Path], None] | None = None,
) -> RunDirectory:
    """Create a complete run directory without starting the run. Nothing is left behind if this fails.

    Args:
        config: Configuration of the run.
        path: New folder.
        concepts: Concepts by name, instead of the library's.
        title: Instead of the configuration's description.
        fill: Called with the temporary folder, to add files before it is renamed to `path`.

    Raises:
        RunError: `path` exists and is not empty, or cannot be written.
        ConceptError: a tracked concept is unknown, or the task cannot use the run's concept.
        ConfigError: the text to train on cannot be read.
    """
    known = {name: (concepts or {}).get(name) or concept_library.load(name) for name in config.tracked}
    check_concept(config, known[config.concept])
    if paths.occupied(path):
        raise RunError(f"{path} already exists and is not empty. {_instead(path)}")
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
        (staging / layout.CONCEPTS).mkdir()
        for name, concept in known.items():
            (layout.concept_file(staging, name)).write_text(dump_jsonl(concept))
        if fill is not None:
            fill(staging)
        if text_files.is_file_name(config.text) and not (staging / layout.TEXT).is_file():
            text_files.store(staging / layout.TEXT, text_files.read(config.text))
        (staging / layout.CONFIG).write_text(json.dumps(record, indent=2))
        staging.rename(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}). Name another folder.") from error
    finally:
        if staging.is_dir():
            shutil.rmtree(staging)
    return RunDirectory(path)


def new_path(config: RelearnConfig) -> Path:
    """An unused path for a new run in the runs folder, named after the time and the concept."""
    paths.runs_root().mkdir(parents=True, exist_ok=True)
    stem = f"{datetime.now(timezone.utc).strftime('%Y%m%d-%H%M%S')}-{config.concept}"
    candidates = (paths.runs_root() / (stem + (f"-{i + 1}" if i else "")) for i in itertools.count())
    return next(path for path in candidates if not path.exists())


def start(config: RelearnConfig, *, concepts: Mapping[str, Concept] | None = None, owner: str = "") -> RunDirectory:
    """Create a run in the runs folder and put it into the queue of its device, whose worker outlives this process.

    Raises:
        ConfigError: the device does not exist here; nothing is left behind.
    """
    queue.device_of(config.device)
    run = create_in_home(config, concepts=concepts)
    queue.submit(run.path, "run", config.device, owner)
    return run


def create_in_home(
    config: RelearnConfig,
    *,
    concepts: Mapping[str, Concept] | None = None,
    fill: Callable[[Path], None] | None = None,
) -> RunDirectory:
    """Create a run in the runs folder; if another session takes the name in the meantime, the next name is tried.

    Raises:
        PalimpsestError: as for `create`.
    """
    for _ in range(20):
        path = new_path(config)
        try:
            return create(config, path, concepts=concepts, fill=fill)
        except RunError:
            if not path.exists():
                raise
    raise RunError("Too many runs are being started at once. Try again.")


def list_runs(root: Path | None = None) -> list[RunDirectory]:
    """All runs under `root` (default: the runs folder), newest first; those with a damaged config.json come last.

    A folder with a config.json that is something else, such as a model's, is left out.
    """
    root = root or paths.runs_root()
    found = filter(None, (_listed(path.parent) for path in root.glob(f"*/{layout.CONFIG}")))
    return [run for *_, run in sorted(found, key=lambda one: one[:2], reverse=True)]


def created(run: RunDirectory) -> str:
    """When a run was created (ISO time, UTC); empty if its config.json is damaged."""
    try:
        return run.created
    except RunError:
        return ""


def find(reference: str) -> RunDirectory:
    """Find a run by its name in the runs folder or by its path.

    Raises:
        RunError: there is no such run.
    """
    candidates = [paths.runs_root() / Path(reference).name]
    with suppress(RuntimeError):  # `~name` of an unknown user
        candidates.insert(0, Path(reference).expanduser())
    for path in candidates:
        with suppress(OSError):  # a name that is too long for a file
            if (path / layout.CONFIG).is_file():
                return RunDirectory(path)
    raise RunError(f"There is no run “{reference}”. `palimpsest runs` lists them; a run's path works too.")


def _listed(folder: Path) -> tuple[str, str, RunDirectory] | None:
    """When a run was created, its name, and the run; None for any other folder. One that cannot be read counts as a run."""
    if folder.name.startswith("."):
        return None
    try:
        run = RunDirectory(folder)
    except RunError:  # config.json is not a file, or has been removed
        return None
    try:
        record = run.record
    except (RunError, OSError):
        return "", run.name, run
    if "config" not in record and not any((folder / name).exists() for name in _OF_RUNS):
        return None
    return str(record.get("created", "")), run.name, run


def _instead(path: Path) -> str:
    """Advice on a folder that is in the way of a new run; nothing in it is ever replaced."""
    new = "Name a new folder for the run."
    if (listed := _listed(path)) is None:
        return new
    run = listed[2]
    status = run.status()
    if status.active or run.n_snapshots():
        return f"It holds a run ({status.state}). {new}"
    return (
        f"It holds a run without a snapshot ({status.state}), and `palimpsest resume {path}` executes that one with the "
        "settings it was created with. For other settings name a new folder, or delete this one."
    )
