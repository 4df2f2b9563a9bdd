"""Negative Preference Optimization, with a retain term."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from analysis.edits.gradient import losses
from analysis.edits.gradient.edit import KeepingEdit, Term, check_beta
from analysis.edits.method import method

__all__ = ["METHOD", "Npo"]


@dataclass(frozen=True, kw_only=True)
class Npo(KeepingEdit):
    """Negative Preference Optimization with a retain term (Zhang et al. 2024, arXiv 2404.05868)."""

    name: ClassVar[str] = "npo"
    learning_rate: float = 1e-4
    """Learning rate of AdamW; with a schedule, that of the first step."""
    beta: float = 0.1
    """Inverse temperature: the larger, the sooner the gradient on a forgotten fact fades."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_beta(self.beta)

    def terms(self) -> tuple[Term, ...]:
        return (Term("forget", self.lambda_forget, "ratio", partial(losses.npo, beta=self.beta)), *self.kept())


METHOD = method(
    Npo,
    "push the facts below what the model gave them before, ever more gently, and keep other facts and text",
    source="Zhang et al. 2024, arXiv 2404.05868",
    place=100,
)
