"""Mechanistic Unlearning: -log(1 - p) on the facts, cross-entropy on the rest."""

from dataclasses import dataclass
from typing import Any, ClassVar

from analysis.edits.gradient import losses
from analysis.edits.gradient.edit import KeepingEdit, Term
from analysis.edits.method import method

__all__ = ["MECHANISTIC_UNLEARNING", "MECHANISTIC_UNLEARNING_LOCALIZED", "METHOD", "Unlearn"]

MECHANISTIC_UNLEARNING: dict[str, Any] = {"steps": 50, "batch_size": 64, "learning_rate": 2e-5, "lambda_forget": 5.0}
"""Guo et al. 2024, sports, 16 athletes, all weights or all MLPs: 50 steps of 64 items, AdamW, cosine, clip 1."""

MECHANISTIC_UNLEARNING_LOCALIZED: dict[str, Any] = {
    "steps": 50,
    "batch_size": 64,
    "learning_rate": 1e-5,
    "lambda_forget": 1.0,
}
"""The same for training confined to MLP layers (fact lookup); name the layers in `only`."""


@dataclass(frozen=True, kw_only=True)
class Unlearn(KeepingEdit):
    """Mechanistic Unlearning (Guo et al. 2024, arXiv 2410.12949): -log(1 - p) on the facts, cross-entropy on the rest."""

    name: ClassVar[str] = "unlearn"
    learning_rate: float = 1e-4
    """Learning rate of AdamW; with a schedule, that of the first step."""

    def terms(self) -> tuple[Term, ...]:
        return (Term("forget", self.lambda_forget, "tokens", losses.unlikelihood), *self.kept())


METHOD = method(
    Unlearn,
    "train the answers' probability down, and keep other facts and text",
    source="Guo et al. 2024, arXiv 2410.12949",
    presets={
        "Mechanistic Unlearning: all weights": MECHANISTIC_UNLEARNING,
        "Mechanistic Unlearning: fact lookup": MECHANISTIC_UNLEARNING_LOCALIZED,
    },
    place=50,
)
