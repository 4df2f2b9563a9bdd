"""Gradient ascent on the facts and nothing else: the baseline."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from analysis.edits.gradient import losses
from analysis.edits.gradient.edit import GradientEdit, Term, check_cap
from analysis.edits.method import method

__all__ = ["METHOD", "GradientAscent"]


@dataclass(frozen=True, kw_only=True)
class GradientAscent(GradientEdit):
    """Gradient ascent on the facts and nothing else (Jang et al. 2023, arXiv 2210.01504): the baseline that shows what
    the other terms are for."""

    name: ClassVar[str] = "gradient_ascent"
    learning_rate: float = 1e-5
    """Learning rate of AdamW; with a schedule, that of the first step."""
    cap: float | None = None
    """Loss in nats per token at which the ascent stops. None: it never stops, as published."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cap(self.cap)

    def terms(self) -> tuple[Term, ...]:
        return (Term("forget", 1.0, "tokens", partial(losses.reversed_cross_entropy, cap=self.cap)),)


METHOD = method(
    GradientAscent,
    "raise the loss on the facts, and keep nothing",
    source="Jang et al. 2023, arXiv 2210.01504",
    place=80,
)
