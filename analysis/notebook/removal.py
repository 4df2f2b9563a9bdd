"""Applies an edit to a copy of the model, and measures what the copy forgot, what it kept and what broke."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from analysis.checks import Range, Seed, checked
from analysis.edits.recipe import Recipe
from analysis.errors import ConfigError
from analysis.evaluation import compare
from analysis.models import LanguageModel, memory
from analysis.models.copying import copy_model
from analysis.notebook.editing import GivenEdit
from analysis.notebook.html import table_html
from analysis.notebook.loading import GivenConcept, GivenModel, as_concept
from analysis.notebook.progress import shown_progress
from analysis.removals import Outcome, edit_and_evaluate
from analysis.scoring import factual_recall

__all__ = ["RemovedConcept", "remove"]


@dataclass(frozen=True, repr=False)
class RemovedConcept:
    """The edited model, and its evaluation before and after the edit."""

    recipe: Recipe
    """The edit, with all that is needed to make the same weights again from the same model."""
    outcome: Outcome
    """Every measure before and after, with intervals."""
    model: LanguageModel
    """The edited copy of the model."""

    def summary(self) -> dict[str, Any]:
        """The headline numbers before and after, as plain JSON."""
        return self.outcome.summary()

    def table(self) -> pd.DataFrame:
        """One row for each measure: its values before and after, 95% intervals and numbers of cases."""
        return compare([self.outcome.before, self.outcome.after])

    def __repr__(self) -> str:
        return f"RemovedConcept({self.recipe.describe()})"

    def _repr_html_(self) -> str:
        return table_html(self.table(), self.recipe.describe(), note=self.outcome.after.warning or "", index=True)


@checked
def remove(
    model: GivenModel,
    concept: GivenConcept,
    edit: GivenEdit,
    *,
    evaluate: str | Sequence[str] = "quick",
    maintain: Sequence[str] = (),
    known_threshold: Annotated[float, Range(least=0, most=1)] = factual_recall.KNOWN_THRESHOLD,
    seed: Seed = 0,
    progress: bool = True,
) -> RemovedConcept:
    """Apply `edit` to a copy of `model`, and evaluate the copy against `model`, which is not changed.

    Args:
        model: The unedited model, in float32.
        concept: The concept to remove, or its name or path (`load_concept`).
        edit: An edit from `prune`, `reverse` or `edit`.
        evaluate: Parts of the evaluation: "quick", "all", or names of parts (docs/evaluation.md).
        maintain: Names of concepts whose facts a gradient edit must keep.
        known_threshold: Facts below this mean P(answer) in the unedited model are neither removed nor kept.
        seed: Seed of the evaluation.
        progress: Whether to draw a bar.

    Raises:
        ConfigError: the model is not in float32.
        EditError: the edit does not fit the model.
        MemoryShortError: there is too little memory for the copy.
        ConceptError: the concept lacks what the edit needs.
    """
    concept = as_concept(concept)
    if model.dtype != "float32":
        raise ConfigError(
            f"Edits need a model in float32, and this one is in {model.dtype}. Load it with dtype=float32."
        )
    recipe = Recipe.of(model, [(concept, edit)], maintain=maintain, threshold=known_threshold)
    memory.load_estimate(model.n_parameters, model.dtype, str(model.device)).check()
    copied = copy_model(model)
    what = evaluate if isinstance(evaluate, str) else tuple(evaluate)
    with tempfile.TemporaryDirectory() as folder, shown_progress(recipe.describe(), shown=progress) as tell:
        _, outcome = edit_and_evaluate(copied, recipe, Path(folder), what=what, seed=seed, progress=tell)
    return RemovedConcept(recipe, outcome, copied)
