"""Carries out a recipe on a freshly loaded model and evaluates it, as a job with a folder of its own.

    REMOVAL/removal.json          settings, package versions, creation time; never changes
    REMOVAL/recipe.json           the edits
    REMOVAL/edits/0000.safetensors   what each edit changed, bit by bit
    REMOVAL/checkpoint/00/        state of a gradient edit's training, to resume from
    REMOVAL/evaluation.json       the model before and after
    REMOVAL/evaluation.csv        the same side by side

Status, events and stopping work as for every job (`jobs`); removals wait for their device in the `queue`. A stopped
removal resumes where it was when it is executed again.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from analysis import evaluation, models, paths
from analysis.concepts import Fact, digest
from analysis.edits import Change, Ledger, Training
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.objectives.rmu import Rmu
from analysis.edits.recipe import Recipe
from analysis.errors import ConfigError, RunError, StoppedError
from analysis.evaluation import Evaluation
from analysis.jobs import Job, JobStatus, layout, queue
from analysis.jobs.job import StatusKeeper, read_json
from analysis.models import LanguageModel, catalog, fetch, memory
from analysis.models.memory import MemoryEstimate
from analysis.progress import Progress, none
from analysis.removals.layout import EVALUATION, EVALUATION_TABLE, RECIPE, RECORD_FILES, record_file

__all__ = [
    "Outcome",
    "Removal",
    "create",
    "edit_and_evaluate",
    "execute",
    "list_removals",
    "new_path",
    "resume",
    "start",
]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a removal."""

    before: Evaluation
    after: Evaluation
    edited_parameters: int
    """Number of weights whose bits changed; a weight changed by two edits counts twice."""
    seconds: float
    """Time for planning and writing the edits, without the evaluation."""

    @property
    def forgetting(self) -> str:
        """The measure that says how much is left of the concept: `forget`, or `labelled_words` where it has no facts."""
        return "labelled_words" if self.before.provenance.get("n_facts") == 0 else "forget"

    def summary(self) -> dict[str, Any]:
        """The headline numbers as plain JSON."""
        before, after = self.before.summary(), self.after.summary()
        return {
            "before": {name: value for name, value in before.items() if name not in ("kl", "warning")},
            "after": {name: value for name, value in after.items() if name not in ("kl", "warning")},
            "kl": after["kl"],
            "warning": after["warning"],
            "edited_parameters": self.edited_parameters,
            "seconds": round(self.seconds, 2),
        }


class Removal(Job):
    """A removal's folder."""

    kept = "The state of the training up to here is kept"

    def __init__(self, path: Path):
        super().__init__(path)
        if record_file(path) is None:
            raise RunError(f"{path} is not a removal: it has no removal.json.")

    @property
    def settings(self) -> dict[str, Any]:
        """`device`, `what` (parts of the evaluation) and `seed`, with versions and creation time."""
        return read_json(record_file(self.path) or self.path / RECORD_FILES[0])

    @property
    def recipe(self) -> Recipe:
        return Recipe.load(self.path / RECIPE)

    def outcome(self) -> Outcome | None:
        """The result; None until the removal has finished.

        Raises:
            RunError: evaluation.json is damaged.
        """
        try:
            data = read_json(self.path / EVALUATION)
            return Outcome(
                before=Evaluation.from_dict(data["before"]),
                after=Evaluation.from_dict(data["after"]),
                edited_parameters=data["edited_parameters"],
                seconds=data["seconds"],
            )
        except FileNotFoundError:
            return None
        except (ConfigError, KeyError, TypeError) as error:
            raise RunError(f"{self.path / 'evaluation.json'} is damaged ({error}).") from error

    def deltas(self) -> list[Path]:
        """The delta files of the edits, in order."""
        return sorted((self.path / layout.EDITS).glob("*.safetensors"))


def create(
    recipe: Recipe, path: Path, *, device: str = "auto", what: str | tuple[str, ...] = "quick", seed: int = 0
) -> Removal:
    """Create a removal's folder without starting the removal.

    Raises:
        ConfigError: a part of the evaluation is unknown, or a concept has changed since the recipe was made.
        RunError: `path` exists and is not empty, or cannot be written.
    """
    recipe.check_concepts()
    parts = evaluation.parts_of(what)
    if paths.occupied(path):
        raise RunError(f"{path} already exists and is not empty. Name a new folder.")
    record = {
        "title": recipe.describe(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device,
        "what": parts,
        "seed": seed,
        "versions": dict(recipe.versions),
    }
    try:
        path.mkdir(parents=True, exist_ok=True)
        recipe.save(path / RECIPE)
        paths.write_atomically(path / RECORD_FILES[0], json.dumps(record, indent=2).encode())
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}). Name another folder.") from error
    return Removal(path)


def edit_and_evaluate(
    model: LanguageModel,
    recipe: Recipe,
    folder: Path,
    *,
    what: str | tuple[str, ...] = "quick",
    seed: int = 0,
    progress: Progress | None = None,
    on_step: Callable[[int, float, dict[str, float]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Ledger, Outcome]:
    """Evaluate the unedited `model`, carry out the recipe on it, and evaluate it again.

    The evaluation is of the concept of the last step. The folder gets `edits/`, `checkpoint/`, `evaluation.json` and
    `evaluation.csv`.

    Args:
        model: The unedited model; its weights change.
        recipe: The edits to carry out.
        folder: Where everything is written.
        what: Parts of the evaluation (`evaluation.parts_of`).
        seed: Seed of the evaluation: options, neighbours, sampled text.
        progress: Called with a stage's name and its share done.
        on_step: Called after every step of a training, with its number, loss and terms.
        should_stop: Called between stages and after every step of a training; True stops.

    Raises:
        StoppedError: `should_stop` returned True; the weights are as they were.
        PalimpsestError: the recipe does not fit the model, or cannot be carried out; the weights are as they were.
    """
    report = progress or none

    def going() -> None:
        if should_stop is not None and should_stop():
            raise StoppedError("Stopped on request. The weights are as they were.")

    concept = recipe.concepts[recipe.steps[-1].concept]
    started = time.monotonic()
    planned = recipe.plan(model, progress)
    planning = time.monotonic() - started
    facts, injected = _removed(planned), _injected(planned)
    going()
    base = evaluation.baseline(
        model, concept, facts, injected=injected, what=what, seed=seed, threshold=recipe.threshold, progress=report
    )
    going()
    ledger, started = Ledger(model, folder / layout.EDITS), time.monotonic()
    try:
        for i, (change, name) in enumerate(planned):
            report(f"Writing {change.edit.method}", i / len(planned))
            if isinstance(change, Training):
                change.on_step = on_step  # type: ignore[assignment]
                change.should_stop = should_stop
                change.checkpoint_folder = folder / "checkpoint" / f"{i:02d}"
                change.hold = ledger.held()
            ledger.apply(change, concept=name, concept_digest=digest(recipe.concepts[name]))
            going()
        seconds = planning + time.monotonic() - started
        after = evaluation.evaluate(model, concept, base=base, what=what, label="edited", progress=report)
        changed = sum(entry.n_changed for entry in ledger.entries)
        outcome = Outcome(before=base.evaluation, after=after, edited_parameters=changed, seconds=seconds)
        _write(folder, outcome)
    except BaseException:
        ledger.undo_to(0)
        raise
    return ledger, outcome


def execute(
    removal: Removal,
    *,
    model: LanguageModel | None = None,
    progress: Progress | None = None,
) -> JobStatus:
    """Execute a removal as its worker: load the model, edit and evaluate it, and keep the status up to date.

    If `model` is None and a dashboard holds the memory that the model needs, it is asked to free it first.

    Raises:
        PalimpsestError: the removal failed; its status says so too.
    """
    keeper, settings = StatusKeeper(removal), removal.settings
    report = progress or none

    def stage(text: str, share: float) -> None:
        keeper.update(message=text)
        report(text, share)

    def step(number: int, loss: float, terms: dict[str, float]) -> None:
        state = "stopping" if removal.stop_requested() else "running"
        keeper.update(state=state, step=number, message=f"Training, step {number}")
        removal.append_event("step", step=number, loss=loss, terms=dict(terms))
        report(f"Training, step {number}", 0.5)

    def work() -> str:
        recipe, loaded = removal.recipe, model
        if loaded is None:
            device = queue.device_of(settings["device"])
            queue.wait_for_memory(lambda: _estimate(recipe, device), removal, lambda text: stage(text, 0.0))
            stage("Loading the model", 0.0)
            loaded = models.load(recipe.model, device=device, dtype="float32")
        edit_and_evaluate(
            loaded,
            recipe,
            removal.path,
            what=tuple(settings["what"]),
            seed=settings["seed"],
            progress=stage,
            on_step=step,
            should_stop=removal.stop_requested,
        )
        return "Finished"

    return keeper.execute(work)


def resume(removal: Removal, *, owner: str = "") -> None:
    """Put a stopped or crashed removal into the queue again; it resumes where it was.

    Raises:
        ConfigError: its device does not exist here.
        RunError: the removal is queued or running already.
    """
    queue.submit(removal.path, "removal", removal.settings["device"], owner)


def start(
    recipe: Recipe, *, device: str = "auto", what: str | tuple[str, ...] = "quick", seed: int = 0, owner: str = ""
) -> Removal:
    """Create a removal in the home folder and put it into the queue of its device.

    Raises:
        ConfigError: the device does not exist here; nothing is left behind.
    """
    queue.device_of(device)
    last = recipe.steps[-1]
    path = new_path(last.concept, last.edit.method)
    removal = create(recipe, path, device=device, what=what, seed=seed)
    queue.submit(removal.path, "removal", device, owner)
    return removal


def new_path(concept: str, method: str) -> Path:
    """A path for a new removal, named after the time, the concept and the method."""
    root = paths.removals_root()
    root.mkdir(parents=True, exist_ok=True)
    now = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
    return root / f"{now}-{concept}-{method}"


def list_removals(root: Path | None = None) -> list[Removal]:
    """All removals in `root` (default: `paths.removal_roots`), newest first."""
    folders = {path.parent for top in ([root] if root else paths.removal_roots()) for path in top.glob("*/*.json")}
    found = (Removal(folder) for folder in folders if record_file(folder))
    return sorted(found, key=lambda one: one.name, reverse=True)


def _estimate(recipe: Recipe, device: str) -> MemoryEstimate:
    """Memory for the recipe's model, with gradients and two moments if the whole model is trained."""
    n_parameters = memory.count_parameters(fetch.locate(catalog.resolve(recipe.model)))
    load = memory.load_estimate(n_parameters, "float32", device)
    edits = [step.edit for step in recipe.steps if isinstance(step.edit, GradientEdit)]
    if all(edit.only or edit.lora_rank or isinstance(edit, Rmu) for edit in edits):
        return load  # only a part is trained: its memory is checked once the part is known
    return replace(load, needed=load.needed + 12 * n_parameters, what=f"{load.what} and training it")


def _removed(planned: list[tuple[Change[Any], str]]) -> tuple[Fact, ...] | None:
    """The facts removed by all steps on the last step's concept; None means all that the model knows."""
    parts = [change.removed for change, name in planned if name == planned[-1][1]]
    if any(part is None for part in parts):
        return None
    return tuple(dict.fromkeys(fact for part in parts for fact in part or ()))


def _injected(planned: list[tuple[Change[Any], str]]) -> tuple[Fact, ...]:
    """The new answers taught by all steps on the last step's concept; the later one if two have the same subject."""
    facts = {fact.subject: fact for change, name in planned if name == planned[-1][1] for fact in change.injected}
    return tuple(facts.values())


def _write(folder: Path, outcome: Outcome) -> None:
    table = evaluation.compare([outcome.before, outcome.after])
    paths.write_atomically(folder / EVALUATION_TABLE, table.to_csv().encode())
    data = {**asdict(outcome), "before": outcome.before.to_dict(), "after": outcome.after.to_dict()}
    content = json.dumps(data, default=lambda value: value.item() if isinstance(value, np.generic) else str(value))
    paths.write_atomically(folder / EVALUATION, content.encode())
