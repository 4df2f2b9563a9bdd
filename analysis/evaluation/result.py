"""Holds the results of an evaluation: measures, each with its number of cases and 95% interval, and their tables.

A measure that cannot be taken is absent, and `Evaluation.skipped` says why: there is no NaN.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from analysis.errors import ConfigError, ModelFileError

__all__ = ["SUMMARY", "Curve", "Evaluation", "Generation", "Histogram", "Measure", "compare"]

SUMMARY = ("forget", "paraphrase", "multiple_choice", "labelled_words", "neighbours", "neutral_perplexity")
"""Measures that `Evaluation.summary` returns besides KL."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number with its uncertainty."""

    name: str
    value: float
    low: float
    """Lower end of the 95% interval."""
    high: float
    n: int
    """Number of cases that the interval counts as independent."""
    counts: str
    """The kind of case: facts, sentences, answers."""
    unit: str
    note: str = ""
    """Further information for the reader, such as chance level or cases left out."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.value, self.low, self.high)) or self.n < 1:
            raise ModelFileError(
                f"The measure “{self.name}” came out as {self.value} [{self.low}, {self.high}] of {self.n} {self.counts}: "
                "the model's numbers are not finite. Undo the last edit, or load the model again."
            )

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}], n = {self.n} {self.counts}"


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts in bins."""

    edges: tuple[float, ...]
    """Edges of the bins, ascending; one more than `counts`."""
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A measure by layer."""

    name: str
    layers: tuple[int, ...]
    """Layer of each value; -1 is the embedding."""
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int
    counts: str
    unit: str


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A greedy continuation of a prompt by the model."""

    about: str
    """“forgotten”: the prompt asks for a fact to be forgotten or a labelled word; “kept”: for a neighbouring fact;
    “ordinary”: for neither."""
    prompt: str
    tokens: tuple[tuple[str, float], ...]
    """Each new token with its probability; empty if the model ends the text at once."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All measures of one state of a model."""

    model: str
    concept: str
    label: str
    """Name of the state in tables: “base”, “edited”, or an edit's description."""
    measures: tuple[Measure, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Part or measure -> why it is absent."""
    facts: tuple[tuple[str, str, float], ...] = ()
    """(subject, answer, P(answer)) of every fact to be forgotten, if `forget` was measured."""
    histogram: Histogram | None = None
    """KL of single tokens, nats."""
    curves: tuple[Curve, ...] = ()
    generations: tuple[Generation, ...] = ()
    warning: str | None = None
    """Set if the edit wrecked the model: the measures then do not show that a concept was forgotten."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Seed, seconds, general text, and the parts that were asked for."""

    def __post_init__(self) -> None:
        names = [measure.name for measure in self.measures]
        if len(set(names)) != len(names):
            raise ConfigError(f"A measure appears twice: {', '.join(sorted(names))}.")

    def get(self, name: str) -> Measure | None:
        """Return the measure of that name, or None."""
        return next((measure for measure in self.measures if measure.name == name), None)

    def value(self, name: str) -> float | None:
        """Return the value of a measure, or None if it is absent."""
        measure = self.get(name)
        return None if measure is None else measure.value

    @property
    def collapsed(self) -> bool:
        """Whether the model was wrecked (see `warning`)."""
        return self.warning is not None

    def table(self) -> pd.DataFrame:
        """Return one row per measure: measure, value, low, high, n, counts, unit, note."""
        columns = ["measure", "value", "low", "high", "n", "counts", "unit", "note"]
        rows = [{"measure": measure.name, **asdict(measure)} for measure in self.measures]
        return pd.DataFrame(rows, columns=columns)

    def summary(self) -> dict[str, Any]:
        """The headline numbers as plain JSON: the `SUMMARY` measures' values, `kl` with median, mean, p95 and n_tokens,
        and `warning`. Absent ones are None."""
        median = self.get("kl_median")
        kl = None
        if median is not None:
            tokens = sum(self.histogram.counts) if self.histogram else 0
            kl = {name: self.value(f"kl_{name}") for name in ("median", "mean", "p95")} | {"n_tokens": tokens}
        return {name: self.value(name) for name in SUMMARY} | {"kl": kl, "warning": self.warning}

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as plain JSON, which `from_dict` reads back unchanged."""
        return asdict(self) | {"skipped": dict(self.skipped), "provenance": dict(self.provenance)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Evaluation":
        """Rebuild from `to_dict`, also after a round trip through JSON.

        Raises:
            ConfigError: a field is missing, unknown or of the wrong kind.
        """
        try:
            histogram = data.get("histogram")
            return cls(
                **{
                    **data,
                    "measures": tuple(Measure(**measure) for measure in data["measures"]),
                    "facts": tuple((str(s), str(a), float(p)) for s, a, p in data.get("facts", ())),
                    "histogram": None
                    if histogram is None
                    else Histogram(edges=tuple(histogram["edges"]), counts=tuple(histogram["counts"])),
                    "curves": tuple(_curve(curve) for curve in data.get("curves", ())),
                    "generations": tuple(_generation(one) for one in data.get("generations", ())),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"This is not an evaluation ({error}).") from error


def _curve(data: Mapping[str, Any]) -> Curve:
    return Curve(**{**data, **{name: tuple(data[name]) for name in ("layers", "values", "low", "high")}})


def _generation(data: Mapping[str, Any]) -> Generation:
    return Generation(**{**data, "tokens": tuple((str(text), float(p)) for text, p in data["tokens"])})


def compare(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """Tabulate evaluations side by side: one row per measure (index); for each label L columns L, “L low”, “L high”, “L n”.

    A measure that an evaluation lacks is NA there. Evaluations with a warning have “(collapsed)” in their label.

    Raises:
        ConfigError: there is nothing to compare, or two evaluations have the same label.
    """
    labels = [f"{one.label} (collapsed)" if one.collapsed else one.label for one in evaluations]
    if not evaluations or len(set(labels)) != len(labels):
        raise ConfigError("Give at least one evaluation, each with a label of its own, such as base and edited.")
    names = list(dict.fromkeys(measure.name for one in evaluations for measure in one.measures))
    columns: dict[str, pd.Series] = {}
    for label, one in zip(labels, evaluations):
        found = [one.get(name) for name in names]
        for suffix, attribute in (("", "value"), (" low", "low"), (" high", "high"), (" n", "n")):
            values = [None if measure is None else getattr(measure, attribute) for measure in found]
            columns[label + suffix] = pd.Series(
                values, index=names, dtype="Int64" if attribute == "n" else "Float64", name=label + suffix
            )
    return pd.DataFrame(columns, index=pd.Index(names, name="measure"))
