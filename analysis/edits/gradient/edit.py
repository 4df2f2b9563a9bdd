"""Defines the settings of a gradient edit and the weighted terms of its objective.

Every objective is a weighted sum of terms, each on one kind of text: `forget` (facts to remove), `old` and `update`
(facts that get another answer, with their right and their new answer), `maintain` (facts to keep), `text` (ordinary
sentences) and `retain` (the last two together). The loss counts a fact's answer tokens, and every token of a sentence.
The package `objectives` holds the objectives; `training` carries them out.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from analysis.edits.components.selection import named_components, short_list
from analysis.edits.edit import Edit
from analysis.edits.gradient import losses
from analysis.errors import ConfigError
from analysis.training.precision import Precision, choose_precision

__all__ = ["GradientEdit", "KeepingEdit", "Term", "check_beta", "check_cap", "require"]

Kind = Literal["tokens", "ratio", "length", "kl", "steer", "match"]


@dataclass(frozen=True)
class Term:
    """One part of an objective."""

    name: str
    """The kind of text it is computed on."""
    weight: float
    kind: Kind
    """The arguments of `loss`. `tokens`: logits and tokens. `ratio`: log-probabilities of the texts, now and before
    training. `length`: log-probabilities and lengths. `kl`: logits, and log-probabilities before training. `steer`:
    activations and the target. `match`: activations, now and before training."""
    loss: Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class GradientEdit(Edit):
    """Trains the model, or a part of it, to unlearn facts."""

    forget: tuple[str, ...] = ()
    """Names of the facts to remove; empty: all that the model knows, or forget_count of them."""
    forget_count: int = 0
    """Remove this many known facts, drawn with the seed, and maintain the others; 0 removes all."""
    only: str = ""
    """Components whose weights may move, such as L5.MLP, L7.H3; empty: the whole model."""
    steps: int = 24
    """Steps of AdamW."""
    batch_size: int = 8
    """Texts of each kind in a step."""
    learning_rate: float = 2e-5
    """Learning rate of AdamW; with a schedule, that of the first step."""
    weight_decay: float = 0.0
    """AdamW's weight decay: each step shrinks the weights by this share of the learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the gradient's mean and mean square."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """The learning rate falls to 0 along a cosine, or stays."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    precision: Precision = "auto"
    """Autocast precision of the training: bf16, float32, or “auto”, the faster one on the device; weights and optimiser
    keep theirs."""
    lora_rank: int = 0
    """Train factors of this rank on the linear layers and merge them at the end; 0 trains the weights themselves."""
    lora_alpha: float = 16.0
    """The factors' product is scaled by alpha / rank."""
    seed: int = 0
    """Draws facts, new answers, batches and random directions."""

    needs_facts: ClassVar[bool] = True
    injects: ClassVar[bool] = False
    """Whether the facts to remove are trained on another answer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("steps", 1), ("batch_size", 1), ("forget_count", 0), ("lora_rank", 0), ("seed", 0)):
            value = getattr(self, name)
            require(least <= value < 2**63, f"{name} is {value}; it must be a whole number of at least {least}")
        require(not (self.forget and self.forget_count), "Give the facts' names or their number, not both")
        require(len(set(self.forget)) == len(self.forget), "A fact is named twice")
        require(0 < self.learning_rate < 1, f"learning_rate is {self.learning_rate}; it must be in (0, 1)")
        require(0 <= self.weight_decay < 1, f"weight_decay is {self.weight_decay}; it must be in [0, 1)")
        require(
            all(0 <= beta < 1 for beta in self.betas), f"betas are {self.betas}; they must be two numbers in [0, 1)"
        )
        require(self.clip > 0, f"clip is {self.clip}; it must be above 0")
        require(self.lora_alpha > 0, f"lora_alpha is {self.lora_alpha}; it must be above 0")
        if self.only:
            named_components(self.only)
        for term in self.terms():
            require(
                0 <= term.weight < float("inf"), f"The weight of “{term.name}” is {term.weight}; it must be at least 0"
            )

    def settled(self, device: torch.device) -> "GradientEdit":
        return replace(self, precision=choose_precision(self.precision, device).name)

    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """The terms of the objective, which is the sum of weight * loss."""

    def describe(self) -> str:
        """One phrase for captions: `npo: 24 steps at 2e-05, 8 facts; training only L5.MLP`."""
        what = f"{len(self.forget) or self.forget_count or 'all known'} facts"
        rank = f", rank {self.lora_rank}" if self.lora_rank else ""
        confined = f"; training only {short_list(self.only)}" if self.only else ""
        return f"{self.method}: {self.steps} steps at {self.learning_rate:g}{rank}, {what}{confined}"


@dataclass(frozen=True, kw_only=True)
class KeepingEdit(GradientEdit):
    """A gradient edit that keeps maintained facts and sentences by cross-entropy."""

    lambda_forget: float = 1.0
    """Weight of the facts to remove."""
    lambda_maintain: float = 1.0
    """Weight of the cross-entropy on maintained facts."""
    lambda_text: float = 1.0
    """Weight of the cross-entropy on ordinary sentences."""

    def kept(self) -> tuple[Term, ...]:
        return (
            Term("maintain", self.lambda_maintain, "tokens", losses.cross_entropy),
            Term("text", self.lambda_text, "tokens", losses.cross_entropy),
        )


def require(condition: bool, message: str) -> None:
    """Check a condition on the settings.

    Raises:
        ConfigError: the condition does not hold.
    """
    if not condition:
        raise ConfigError(f"{message}.")


def check_cap(cap: float | None) -> None:
    """Check that a cap is above 0 or None (no cap).

    Raises:
        ConfigError: it is neither.
    """
    require(cap is None or cap > 0, f"cap is {cap}; it must be above 0, or None for no cap")


def check_beta(beta: float) -> None:
    """Check that an inverse temperature is above 0.

    Raises:
        ConfigError: it is not.
    """
    require(beta > 0, f"beta is {beta}; it must be above 0")
