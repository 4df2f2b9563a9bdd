"""The objectives of gradient edits, each with its settings, and the settings of the papers.

The defaults are for the default model, not those of the papers, whose models are fifty times larger; which of them were
ablated, and how: docs/unlearning.md.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from analysis.edits.gradient import losses
from analysis.edits.gradient.edit import GradientEdit, KeepingEdit, Term, require, whole
from analysis.errors import ConfigError

__all__ = [
    "GRADIENT_METHODS",
    "MECHANISTIC_UNLEARNING",
    "MECHANISTIC_UNLEARNING_LOCALIZED",
    "RELEASED_LLM_SURGERY",
    "WMDP_RMU",
    "GradDiff",
    "GradientAscent",
    "Inject",
    "LlmSurgery",
    "Npo",
    "Rmu",
    "SimNpo",
    "Unlearn",
]


@dataclass(frozen=True, kw_only=True)
class Unlearn(KeepingEdit):
    """Mechanistic Unlearning (Guo et al. 2024, arXiv 2410.12949): -log(1 - p) on the facts, cross-entropy on the rest."""

    name: ClassVar[str] = "unlearn"
    learning_rate: float = 1e-4
    """Of the first step, where there is a schedule."""

    def terms(self) -> tuple[Term, ...]:
        return (Term("forget", self.lambda_forget, "tokens", losses.unlikelihood), *self.kept())


@dataclass(frozen=True, kw_only=True)
class Inject(KeepingEdit):
    """Mechanistic Unlearning's editing: cross-entropy on another answer, and on the rest.

    The new answer is the fact's counter answer, or another answer of the concept drawn by the seed.
    """

    name: ClassVar[str] = "inject"
    injects: ClassVar[bool] = True
    learning_rate: float = 1e-4
    """Of the first step, where there is a schedule."""

    def terms(self) -> tuple[Term, ...]:
        return (Term("update", self.lambda_forget, "tokens", losses.cross_entropy), *self.kept())


@dataclass(frozen=True, kw_only=True)
class LlmSurgery(GradientEdit):
    """LLM Surgery (Veldanda et al. 2024, arXiv 2409.13054): reverse gradient on what is unlearned and on the old answers
    of what is updated, descent on the new answers, KL on the rest. The cap on the reversed terms is ours."""

    name: ClassVar[str] = "llm_surgery"
    steps: int = 48
    """Steps of AdamW."""
    learning_rate: float = 1e-4
    """Of the first step, where there is a schedule."""
    weight_decay: float = 0.01
    """AdamW's, a share of the learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the gradient's mean and mean square."""
    update: tuple[str, ...] = ()
    """Names of the facts that get another answer; empty: as many as update_count says."""
    update_count: int = 0
    """Give this many further facts, drawn by the seed, another answer."""
    lambda_forget: float = 0.5
    """Weight of the reversed terms: facts to remove, and old answers."""
    lambda_update: float = 2.0
    """Weight of the cross-entropy on new answers."""
    lambda_retain: float = 50.0
    """Weight of the KL on the retain set."""
    retain_count: int = 0
    """Texts of the retain set, drawn by the seed from the statements of maintained facts and ordinary sentences; 0: every
    statement, and 48 sentences. Each token's reference takes the vocabulary's size in memory."""
    cap: float | None = 4.0
    """Nats a token: reversed terms stop pushing there. None: never, as released."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_cap(self.cap)
        for name in ("update_count", "retain_count"):
            count = getattr(self, name)
            require(0 <= whole(count) < 2**63, f"{name} is {count!r}; it must be at least 0")
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


@dataclass(frozen=True, kw_only=True)
class GradientAscent(GradientEdit):
    """Gradient ascent on the facts and nothing else (Jang et al. 2023, arXiv 2210.01504): the baseline that shows what
    the other terms are for."""

    name: ClassVar[str] = "gradient_ascent"
    learning_rate: float = 1e-5
    """Of the first step, where there is a schedule."""
    cap: float | None = None
    """Nats a token: the ascent stops there. None: never, as published."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_cap(self.cap)

    def terms(self) -> tuple[Term, ...]:
        return (Term("forget", 1.0, "tokens", partial(losses.reversed_cross_entropy, cap=self.cap)),)


@dataclass(frozen=True, kw_only=True)
class GradDiff(KeepingEdit):
    """Gradient difference: ascent on the facts, descent on the rest (Liu et al. 2022, arXiv 2203.12817; as a baseline in
    TOFU, Maini et al. 2024, arXiv 2401.06121)."""

    name: ClassVar[str] = "grad_diff"
    learning_rate: float = 1e-4
    """Of the first step, where there is a schedule."""
    cap: float | None = 4.0
    """Nats a token: the ascent stops there (ours). None: never, as published."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_cap(self.cap)

    def terms(self) -> tuple[Term, ...]:
        away = partial(losses.reversed_cross_entropy, cap=self.cap)
        return (Term("forget", self.lambda_forget, "tokens", away), *self.kept())


@dataclass(frozen=True, kw_only=True)
class Npo(KeepingEdit):
    """Negative Preference Optimization with a retain term (Zhang et al. 2024, arXiv 2404.05868)."""

    name: ClassVar[str] = "npo"
    learning_rate: float = 1e-4
    """Of the first step, where there is a schedule."""
    beta: float = 0.1
    """Inverse temperature: the larger, the sooner a forgotten fact is left alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_beta(self.beta)

    def terms(self) -> tuple[Term, ...]:
        return (Term("forget", self.lambda_forget, "ratio", partial(losses.npo, beta=self.beta)), *self.kept())


@dataclass(frozen=True, kw_only=True)
class SimNpo(KeepingEdit):
    """SimNPO: NPO without a reference model, normalised by length (Fan et al. 2024, arXiv 2410.07163)."""

    name: ClassVar[str] = "simnpo"
    learning_rate: float = 2e-4
    """Of the first step, where there is a schedule."""
    beta: float = 2.5
    """Inverse temperature."""
    gamma: float = 0.0
    """Margin."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_beta(self.beta)
        require(abs(self.gamma) < float("inf"), f"gamma is {self.gamma}; it must be a finite number")

    def terms(self) -> tuple[Term, ...]:
        loss = partial(losses.simnpo, beta=self.beta, gamma=self.gamma)
        return (Term("forget", self.lambda_forget, "length", loss), *self.kept())


@dataclass(frozen=True, kw_only=True)
class Rmu(GradientEdit):
    """Representation Misdirection for Unlearning (Li et al. 2024, arXiv 2403.03218): steer a layer's residual stream to a
    random direction on the facts, keep it on the rest, by training the down projections of three layers.

    Reconstructions: the steering coefficient is a multiple of the activations' mean norm (as in adaptive RMU, Huu-Tien et
    al. 2024, arXiv 2408.06223), and every text's first token, the attention sink, is left out.
    """

    name: ClassVar[str] = "rmu"
    learning_rate: float = 1e-3
    """Of the first step, where there is a schedule."""
    layer: int | None = None
    """Layer after which the residual stream is steered; None: 7 of 32, as published, at the same relative depth."""
    steering: float = 5.0
    """c, as a multiple of the mean norm of the facts' activations at that layer."""
    lambda_retain: float = 100.0
    """alpha: weight of the retain term."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.layer is None or whole(self.layer) >= 0, f"layer is {self.layer!r}; it must be at least 0")
        require(0 < self.steering < float("inf"), f"steering is {self.steering}; it must be above 0")

    def terms(self) -> tuple[Term, ...]:
        return (
            Term("forget", 1.0, "steer", losses.steering),
            Term("retain", self.lambda_retain, "match", losses.matching),
        )

    def layer_in(self, n_layers: int) -> int:
        """The steered layer in a model of `n_layers`.

        Raises:
            ConfigError: the model has no such layer.
        """
        layer = round(7 / 32 * n_layers) if self.layer is None else self.layer
        require(layer < n_layers, f"layer is {layer}; the model has the layers 0 to {n_layers - 1}")
        return layer


GRADIENT_METHODS: dict[str, type[GradientEdit]] = {
    kind.name: kind for kind in (Unlearn, Inject, LlmSurgery, GradientAscent, GradDiff, Npo, SimNpo, Rmu)
}
"""Name of a method -> its edit."""

MECHANISTIC_UNLEARNING: dict[str, Any] = {"steps": 50, "batch_size": 64, "learning_rate": 2e-5, "lambda_forget": 5.0}
"""Guo et al. 2024, sports, 16 athletes, all weights or all MLPs: 50 steps of 64 items, AdamW, cosine, clip 1."""

MECHANISTIC_UNLEARNING_LOCALIZED: dict[str, Any] = {
    "steps": 50,
    "batch_size": 64,
    "learning_rate": 1e-5,
    "lambda_forget": 1.0,
}
"""The same confined to MLP layers (fact lookup); give the layers in `only`."""

RELEASED_LLM_SURGERY: dict[str, Any] = {
    "steps": 120,
    "learning_rate": 2e-4,
    "lambda_forget": 0.1,
    "lambda_update": 2.0,
    "lambda_retain": 0.5,
    "cap": None,
}
"""Veldanda et al. 2024, the released run, for models of several billion parameters; the reversed terms without a cap."""

WMDP_RMU: dict[str, Any] = {
    "steps": 150,
    "batch_size": 4,
    "learning_rate": 5e-5,
    "schedule": "constant",
    "lambda_retain": 1200.0,
}
"""Li et al. 2024, the released run for Zephyr-7B; the steering coefficient stays a multiple of the activations' norm."""


def _check_cap(cap: float | None) -> None:
    require(cap is None or 0 < cap < float("inf"), f"cap is {cap}; it must be above 0, or None for no cap")


def _check_beta(beta: float) -> None:
    require(0 < beta < float("inf"), f"beta is {beta}; it must be above 0")
