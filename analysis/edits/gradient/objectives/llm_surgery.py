"""LLM Surgery: reversed gradient on facts to remove and on old answers, descent on new answers, KL on the rest."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from analysis.edits.gradient import losses
from analysis.edits.gradient.edit import GradientEdit, Term, check_cap, require
from analysis.edits.method import method
from analysis.errors import ConfigError

__all__ = ["METHOD", "RELEASED_LLM_SURGERY", "LlmSurgery"]

RELEASED_LLM_SURGERY: dict[str, Any] = {
    "steps": 120,
    "learning_rate": 2e-4,
    "lambda_forget": 0.1,
    "lambda_update": 2.0,
    "lambda_retain": 0.5,
    "cap": None,
}
"""Veldanda et al. 2024, the released run, for models of several billion parameters; the reversed terms without a cap."""


@dataclass(frozen=True, kw_only=True)
class LlmSurgery(GradientEdit):
    """LLM Surgery (Veldanda et al. 2024, arXiv 2409.13054): reversed gradient on facts to remove and on the old answers of
    updated facts, descent on the new answers, KL on the rest. The cap on the reversed terms is ours."""

    name: ClassVar[str] = "llm_surgery"
    steps: int = 48
    """Steps of AdamW."""
    learning_rate: float = 1e-4
    """Learning rate of AdamW; with a schedule, that of the first step."""
    weight_decay: float = 0.01
    """AdamW's weight decay: each step shrinks the weights by this share of the learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the gradient's mean and mean square."""
    update: tuple[str, ...] = ()
    """Names of the facts that get another answer; empty: update_count facts, drawn with the seed."""
    update_count: int = 0
    """Give this many facts, drawn with the seed, another answer."""
    lambda_forget: float = 0.5
    """Weight of the reversed terms: facts to remove, and old answers."""
    lambda_update: float = 2.0
    """Weight of the cross-entropy on new answers."""
    lambda_retain: float = 50.0
    """Weight of the KL on the retain set."""
    retain_count: int = 0
    """Texts of the retain set, drawn with the seed from the statements of maintained facts and ordinary sentences; 0:
    every statement, and 48 sentences. Memory: one number per token and vocabulary entry."""
    cap: float | None = 4.0
    """Loss in nats per token at which reversed terms stop pushing. None: they never stop, as released."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cap(self.cap)
        for name in ("update_count", "retain_count"):
            count = getattr(self, name)
            require(0 <= count < 2**63, f"{name} is {count}; it must be at least 0")
        require(not (self.update and self.update_count), "Give the names of updated facts or their number, not both")
        require(len(set(self.update)) == len(self.update), "A fact to update is named twice")
        if both := set(self.update) & set(self.forget):
            raise ConfigError(f"“{min(both)}” cannot be both removed and updated.")

    def terms(self) -> tuple[Term, ...]:
        away = partial(losses.reversed_cross_entropy, cap=self.cap)
        return (
            Term("forget", self.lambda_forget, "tokens", away),
            Term("old", self.lambda_forget, "tokens", away),
            Term("update", self.lambda_update, "tokens", losses.cross_entropy),
            Term("retain", self.lambda_retain, "kl", losses.kl_from_reference),
        )


METHOD = method(
    LlmSurgery,
    "forget some facts, give others another answer, and stay close to the model before elsewhere",
    source="Veldanda et al. 2024, arXiv 2409.13054",
    presets={"LLM Surgery: released run": RELEASED_LLM_SURGERY},
    place=70,
)
