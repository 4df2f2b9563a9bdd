"""Mechanistic Unlearning's editing: cross-entropy on another answer, and on the rest."""

from dataclasses import dataclass
from typing import ClassVar

from analysis.edits.gradient import losses
from analysis.edits.gradient.edit import KeepingEdit, Term
from analysis.edits.gradient.objectives.unlearn import MECHANISTIC_UNLEARNING, MECHANISTIC_UNLEARNING_LOCALIZED
from analysis.edits.method import method

__all__ = ["METHOD", "Inject"]


@dataclass(frozen=True, kw_only=True)
class Inject(KeepingEdit):
    """Mechanistic Unlearning's editing: cross-entropy on another answer, and on the rest.

    The new answer is the fact's counter answer, or another answer of the concept drawn by the seed.
    """

    name: ClassVar[str] = "inject"
    injects: ClassVar[bool] = True
    learning_rate: float = 1e-4
    """Learning rate of AdamW; with a schedule, that of the first step."""

    def terms(self) -> tuple[Term, ...]:
        return (Term("update", self.lambda_forget, "tokens", losses.cross_entropy), *self.kept())


METHOD = method(
    Inject,
    "train another answer in, and keep other facts and text",
    source="Guo et al. 2024, arXiv 2410.12949",
    presets={
        "Mechanistic Unlearning: all weights": MECHANISTIC_UNLEARNING,
        "Mechanistic Unlearning: fact lookup": MECHANISTIC_UNLEARNING_LOCALIZED,
    },
    place=60,
)
