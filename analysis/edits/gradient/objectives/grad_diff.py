"""Gradient difference: ascent on the facts, descent on the rest."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from analysis.edits.gradient import losses
from analysis.edits.gradient.edit import KeepingEdit, Term, check_cap
from analysis.edits.method import method

__all__ = ["METHOD", "GradDiff"]


@dataclass(frozen=True, kw_only=True)
class GradDiff(KeepingEdit):
    """Gradient difference: ascent on the facts, descent on the rest (Liu et al. 2022, arXiv 2203.12817; as a baseline in
    TOFU, Maini et al. 2024, arXiv 2401.06121)."""

    name: ClassVar[str] = "grad_diff"
    learning_rate: float = 1e-4
    """Learning rate of AdamW; with a schedule, that of the first step."""
    cap: float | None = 4.0
    """Loss in nats per token at which the ascent stops (ours). None: it never stops, as published."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cap(self.cap)

    def terms(self) -> tuple[Term, ...]:
        away = partial(losses.reversed_cross_entropy, cap=self.cap)
        return (Term("forget", self.lambda_forget, "tokens", away), *self.kept())


METHOD = method(
    GradDiff,
    "raise the loss on the facts, lower it on other facts and text",
    source="Liu et al. 2022, arXiv 2203.12817; Maini et al. 2024 (TOFU), arXiv 2401.06121",
    presets={"TOFU: no cap": {"cap": None}},
    place=90,
)
