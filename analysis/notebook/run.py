"""Relearn in memory, or open a stored run; either is asked the same questions.

Axes: `L` layer, `N` neuron in a layer.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import figures, migration, paths, runs
from analysis.canvas.page import CanvasPage, canvas_page
from analysis.checks import Expected, Seed, checked
from analysis.components.circuit import Circuit
from analysis.concepts import text_files
from analysis.errors import ConfigError, PalimpsestError, RunError
from analysis.models import LanguageModel
from analysis.notebook.circuits import FoundCircuit
from analysis.notebook.editing import GivenEdit
from analysis.notebook.html import table_html
from analysis.notebook.loading import GivenConcept, GivenModel, as_concept
from analysis.notebook.progress import shown_progress
from analysis.relearning import RelearnConfig, RunFacts, Snapshot
from analysis.runs.memory import MemoryRun, run_in_memory
from analysis.runs.record import RunRecord
from analysis.runs.summary import summarise
from analysis.saliency.carriers import carrier_threshold

__all__ = ["FIGURES", "RelearningRun", "list_runs", "open_run", "relearn"]

FIGURES = {
    "recovery": "P(answer) of retrained and held-out facts over training steps, beside the control",
    "layers": "change of each layer's saliency mass since the edit, beside the control",
    "priming": "rank of every neuron before the edit against its rank now; recruits and survivors marked",
    "f1": "F1 of finding the concept's words over training steps (task “tagging”)",
}
"""What `RelearningRun.figure` draws."""

Confined = Annotated[
    str | Circuit | FoundCircuit, Expected("names of components in one text, such as “L5.MLP, L7.H3”, or a circuit")
]


class RelearningRun:
    """A relearning run that can be asked: in memory (`relearn`) or in a folder (`open_run`)."""

    def __init__(self, record: RunRecord):
        self.record = record
        """The run itself: configuration, facts, snapshots, events."""

    @property
    def config(self) -> RelearnConfig:
        """Everything that determined it."""
        return self.record.config

    @property
    def snapshots(self) -> list[Snapshot]:
        """The state of the model before the edit, right after it, and every few steps."""
        return self.record.snapshots()

    @property
    def control(self) -> "RelearningRun | None":
        """The same training without the edit; None where there is none."""
        return None if self.record.control is None else RelearningRun(self.record.control)

    @property
    def model(self) -> LanguageModel:
        """The model as the run left it: edited and retrained.

        Raises:
            RunError: the run lies in a folder, which keeps no loaded model.
        """
        if isinstance(self.record, MemoryRun) and self.record.model is not None:
            return self.record.model
        raise RunError(
            "Only a run in memory has its model at hand, and not its control. Relearn again in this process."
        )

    def summary(self) -> dict[str, Any]:
        """The run in numbers, as plain JSON: what `palimpsest show --json` prints."""
        return summarise(self.record)

    def table(self) -> pd.DataFrame:
        """One row a snapshot: phase, step, loss, P(answer) on retrained and held-out facts, neutral loss, and the
        centre of saliency mass in layers (standardised scale)."""
        concept = self.config.concept
        return pd.DataFrame(
            {
                "phase": one.phase,
                "step": one.step,
                "loss": one.loss,
                "retrained": one.retrained,
                "held_out": one.held_out,
                "neutral_loss": one.neutral_loss,
                "centre_of_mass": migration.centre_of_mass(migration.scaled(one, concept, "standardised")),
                **one.metrics,
            }
            for one in self.snapshots
        )

    @checked
    def recruits(self, scale: str = "standardised", *, step: int | None = None) -> pd.DataFrame:
        """The neurons that newly carry the concept, strongest first (`migration.recruits_table`).

        Args:
            scale: standardised, raw or rank (`migration.SCALES`).
            step: At the snapshot of this training step; None is the last.

        Raises:
            RunError: there is no such snapshot, or none after the edit yet.
        """
        return migration.recruits_table(*self._moments(step), self.config.concept, self._facts().edited, scale)

    @checked
    def carriers(self, scale: str = "standardised", *, step: int | None = None) -> pd.DataFrame:
        """Recruits and survivors with their roles (`migration.carriers_table`); arguments as for `recruits`."""
        titles = {name: concept.title for name, concept in self.record.concepts().items()}
        return migration.carriers_table(*self._moments(step), self.config.concept, self._facts().edited, scale, titles)

    @checked
    def figure(self, kind: str = "recovery", *, scale: str = "standardised") -> go.Figure:
        """A Plotly figure of the run, its control drawn with it.

        Args:
            kind: A key of `FIGURES`.
            scale: Of saliency, for “layers” and “priming”.

        Raises:
            ConfigError: there is no such figure.
            RunError: the run has not got far enough for it.
        """
        if kind not in FIGURES:
            raise ConfigError(f"“{kind}” is no figure. Use {', '.join(FIGURES)}.")
        both: dict[str, RelearningRun] = {"run": self}
        if (control := self.control) is not None and any(one.phase == "training" for one in control.snapshots):
            both["control"] = control
        if kind == "recovery":
            return figures.recovery({name: run.snapshots for name, run in both.items()})
        if kind == "f1":
            return figures.f1_curve({name: run.snapshots for name, run in both.items()})
        if kind == "layers":
            return figures.layer_shift({name: run._change(scale) for name, run in both.items()}, scale)
        return self._priming(both, scale)

    def view(self) -> CanvasPage:
        """The canvas of the Relearn page, to be played in a notebook; `view().save("run.html")` writes it as one file.

        Raises:
            RunError: there is no snapshot after the edit yet.
        """
        return canvas_page(self.record)

    @checked
    def save(self, path: str | Path) -> "RelearningRun":
        """Write a run in memory into a new folder, for the dashboard and the command line; gives the run of that folder.

        Raises:
            RunError: the run lies in a folder already, or `path` cannot be used.
        """
        if not isinstance(self.record, MemoryRun):
            raise RunError(f"The run is stored in {self.record.path} already. Copy that folder.")
        return RelearningRun(self.record.save(paths.expanded(path)))

    def __repr__(self) -> str:
        where = self.record.path or "in memory"
        try:
            return f"RelearningRun({self.config.describe()}; {self.record.n_snapshots()} snapshots, {where})"
        except (PalimpsestError, OSError) as error:  # a list of runs must print even if one of them is damaged
            return f"RelearningRun(damaged: {error}; {where})"

    def _repr_html_(self) -> str:
        control = ", with a control run" if self.record.control else ""
        return table_html(self.table(), f"{self.config.describe()}{control}", note="retrained, held_out: P(answer)")

    def _facts(self) -> RunFacts:
        facts = self.record.facts()
        if facts is None:
            raise RunError("The run has not chosen its facts yet. Wait for its first snapshot.")
        return facts

    def _moments(self, step: int | None) -> tuple[Snapshot, Snapshot, Snapshot]:
        """The base, what training began from, and the snapshot of `step` or the last."""
        taken = self.snapshots
        if not taken:
            raise RunError("The run has no snapshot yet.")
        base = taken[0]
        began = next((one for one in taken if one.phase == "edited"), base)
        if step is None:
            if taken[-1].phase != "training":
                raise RunError("The run has no snapshot after a training step yet.")
            return base, began, taken[-1]
        now = next((one for one in taken if one.phase == "training" and one.step == step), None)
        if now is None:
            steps = ", ".join(str(one.step) for one in taken if one.phase == "training")
            raise RunError(f"There is no snapshot of step {step}. There are those of {steps or 'no step yet'}.")
        return base, began, now

    def _change(self, scale: str) -> tuple[np.ndarray, np.ndarray]:
        _, began, now = self._moments(None)
        concept = self.config.concept
        return migration.scaled(began, concept, scale), migration.scaled(now, concept, scale)

    def _priming(self, both: dict[str, "RelearningRun"], scale: str) -> go.Figure:
        found, concept = {}, self.config.concept
        for name, run in both.items():
            base, _, now = run._moments(None)
            found[name] = migration.primed(base, now, concept, scale, self._facts().edited)
        base_LN, began_LN, now_LN = (migration.scaled(one, concept, scale) for one in self._moments(None))
        roles = migration.roles(now_LN, began_LN, self._facts().edited, carrier_threshold(base_LN))
        return figures.priming_scatter(found, recruits=roles.recruits.flat, survivors=roles.survivors.flat)


@checked
def relearn(
    model: GivenModel,
    concept: GivenConcept,
    *,
    edit: GivenEdit | None = None,
    steps: int = 24,
    control: bool = False,
    seed: Seed = 0,
    track: Sequence[GivenConcept] = (),
    train_only: Confined = "",
    progress: bool = True,
    **settings: Any,
) -> RelearningRun:
    """Edit a copy of `model`, retrain it on part of a concept's facts, and watch where the concept comes back.

    `model` is not changed. The run is kept in memory; `RelearningRun.save` writes it into a folder.

    Args:
        model: In float32.
        concept: What is removed and relearned: a concept, or what `load_concept` takes.
        edit: From `prune`, `reverse` or `analysis.edit`; None trains the unedited model.
        steps: Training steps.
        control: Also run the same training without the edit.
        seed: Of the batches.
        track: Further concepts whose saliency every snapshot has.
        train_only: Components whose weights may move, such as "L5.MLP, L7.H3", or a circuit; all by default.
        progress: Whether to draw a bar.
        settings: Any other field of `relearning.RelearnConfig`, such as `learning_rate=1e-5` or `cadence="log"`.

    Raises:
        ConfigError: a setting is unknown or out of range, or the model is not in float32.
        ConceptError: the model knows too few of the concept's facts.
        EditError: the edit does not fit the model.
        MemoryShortError: the copy and its training do not fit.
    """
    concepts = [as_concept(one) for one in (concept, *track)]
    if model.dtype != "float32":
        raise ConfigError(
            f"Relearning needs a model in float32, and this one is in {model.dtype}. Load it with dtype=float32."
        )
    by_name = {one.name: one for one in reversed(concepts)}
    if clash := next((one.name for one in concepts if by_name[one.name] != one), None):
        raise ConfigError(f"Two different concepts are called “{clash}”. Rename one of them.")
    given = {"model", "concept", "device"} & settings.keys()
    if given:
        raise ConfigError(f"{', '.join(sorted(given))} come with the model and the concept; leave them out.")
    try:
        config = RelearnConfig(
            model=model.source.reference,
            concept=concepts[0].name,
            edit=edit,
            steps=steps,
            control=control and edit is not None,
            seed=seed,
            track=tuple(name for name in dict.fromkeys(one.name for one in concepts[1:]) if name != concepts[0].name),
            train_only=_component_names(train_only),
            device=str(model.device),
            **settings,
        )
    except TypeError as error:
        raise ConfigError(
            f"There is no such setting of a run ({error}). See analysis.relearning.RelearnConfig."
        ) from error
    text = text_files.read(config.text) if config.text else ()
    total = steps * (1 + config.control)
    with shown_progress("Relearning", total=total, shown=progress) as tell:

        def report(stage: str, step: int) -> None:
            tell(stage, step + (steps if stage.startswith("control") else 0))

        return RelearningRun(run_in_memory(model, config, concepts=by_name, text=text, report=report))


def _component_names(chosen: Confined) -> str:
    """Names of the components that training is confined to; an empty circuit must not mean the whole model."""
    if isinstance(chosen, str):
        return chosen
    circuit = chosen.circuit if isinstance(chosen, FoundCircuit) else chosen
    if not circuit.components:
        raise ConfigError("train_only is a circuit without components. Leave it out to train the whole model.")
    return circuit.format()


@checked
def open_run(name: str | Path) -> RelearningRun:
    """A stored run, by its name in the home folder or by its path; it may still be at work.

    Raises:
        RunError: there is none, or it is damaged.
    """
    return RelearningRun(runs.find(str(name)))


def list_runs() -> list[RelearningRun]:
    """The runs of the home folder, newest first."""
    return [RelearningRun(one) for one in runs.list_runs()]
