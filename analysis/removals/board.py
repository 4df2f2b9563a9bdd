"""Compares finished removals: as a table, and on axes on which more is better.

Removals that made the model collapse come last: a collapsed model forgets everything, so what it forgot says nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.concepts import digest
from analysis.errors import PalimpsestError
from analysis.removals.removal import Outcome, Removal

__all__ = ["AXES", "Entry", "entry", "scores", "table"]

AXES: dict[str, str] = {
    "forgotten": "1 − P(answer) after ÷ before; of a concept without facts, P(word) of its labelled words",
    "paraphrases forgotten": "the same on other wordings",
    "choice forgotten": "1 − multiple-choice accuracy after ÷ before; guessing right keeps it below 1",
    "neighbours kept": "P(answer) on neighbouring facts, after ÷ before",
    "language kept": "perplexity on neutral text, before ÷ after",
    "behaviour kept": "median KL on general text, logarithmic: 1 at 0.001 nats or less, 0 at 1 nat or more",
}
"""Axis of the radar -> how it is normalised; all run from 0 (worst) to 1 (best) and are cut off there."""

_LEAST_KL, _MOST_KL = 1e-3, 1.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One removal on the board."""

    name: str
    created: str
    """ISO 8601, UTC."""
    model: str
    concept: str
    """Concept of the last step, which is the one that is evaluated."""
    concept_digest: str = ""
    """Digest of that concept's content (`analysis.concepts.digest`)."""
    method: str
    """Names of the methods, in order."""
    settings: str
    """The edits in words."""
    outcome: Outcome | None = None
    """None until the removal has finished."""
    error: str | None = None
    """Why the removal cannot be read; None if it can."""

    @property
    def collapsed(self) -> bool:
        """Whether the model collapsed after the edit."""
        return self.outcome is not None and self.outcome.after.collapsed


def entry(removal: Removal) -> Entry:
    """Read a removal; one that is damaged becomes an entry that says so."""
    try:
        recipe, settings = removal.recipe, removal.settings
        return Entry(
            name=removal.name,
            created=str(settings.get("created", "")),
            model=recipe.model,
            concept=recipe.steps[-1].concept,
            concept_digest=digest(recipe.concepts[recipe.steps[-1].concept]),
            method=" + ".join(step.edit.method for step in recipe.steps),
            settings=recipe.steps[-1].edit.describe() if len(recipe.steps) == 1 else recipe.describe(),
            outcome=removal.outcome(),
        )
    except (PalimpsestError, FileNotFoundError) as error:
        return Entry(name=removal.name, created="", model="", concept="", method="", settings="", error=str(error))


def scores(outcome: Outcome) -> dict[str, float | None]:
    """The outcome on every axis of `AXES`, 0 to 1; None where it was not measured, or was 0 before."""
    before, after = outcome.before.value, outcome.after.value

    def left(name: str) -> float | None:
        old, new = before(name), after(name)
        return None if old is None or new is None or old <= 0 else new / old

    def gone(name: str) -> float | None:
        share = left(name)
        return None if share is None else 1 - share

    growth, kl = left("neutral_perplexity"), after("kl_median")
    decades = math.log10(_MOST_KL / _LEAST_KL)
    found = {
        "forgotten": gone(outcome.forgetting),
        "paraphrases forgotten": gone("paraphrase"),
        "choice forgotten": gone("multiple_choice"),
        "neighbours kept": left("neighbours"),
        "language kept": None if growth is None else 1 / growth,
        "behaviour kept": None if kl is None else math.log10(_MOST_KL / max(kl, _LEAST_KL)) / decades,
    }
    return {name: None if value is None else min(max(value, 0.0), 1.0) for name, value in found.items()}


def table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row per finished removal, the most forgotten first and collapsed ones last.

    Columns: collapsed, method, settings, for each measure of facts and words its value before and after, perplexity ratio,
    kl_median (nats per token), edited_parameters, seconds (without the evaluation), removal, created, model, concept.
    """
    rows = []
    for one in entries:
        if one.outcome is None:
            continue
        before, after = one.outcome.before, one.outcome.after
        old, new = before.value("neutral_perplexity"), after.value("neutral_perplexity")
        row: dict = {"collapsed": one.collapsed, "method": one.method, "settings": one.settings}
        for name in ("forget", "paraphrase", "multiple_choice", "labelled_words", "neighbours"):
            row |= {f"{name} before": before.value(name), name: after.value(name)}
        row |= {
            "perplexity ratio": None if old is None or new is None else new / old,
            "kl_median": after.value("kl_median"),
            "edited_parameters": one.outcome.edited_parameters,
            "seconds": one.outcome.seconds,
            "removal": one.name,
            "created": one.created,
            "model": one.model,
            "concept": one.concept,
        }
        left = after.value(one.outcome.forgetting)
        rows.append(((one.collapsed, math.inf if left is None else left), row))
    rows.sort(key=lambda keyed: keyed[0])
    return pd.DataFrame([row for _, row in rows])
