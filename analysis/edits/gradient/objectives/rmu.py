"""Representation Misdirection for Unlearning: steers a layer's activations on the facts to a random direction."""

from dataclasses import dataclass
from typing import Any, ClassVar

from analysis.edits.gradient import losses
from analysis.edits.gradient.edit import GradientEdit, Term, require
from analysis.edits.method import method

__all__ = ["METHOD", "WMDP_RMU", "Rmu"]

WMDP_RMU: dict[str, Any] = {
    "steps": 150,
    "batch_size": 4,
    "learning_rate": 5e-5,
    "schedule": "constant",
    "lambda_retain": 1200.0,
}
"""Li et al. 2024, the released run for Zephyr-7B; the steering coefficient stays a multiple of the activations' norm."""


@dataclass(frozen=True, kw_only=True)
class Rmu(GradientEdit):
    """Representation Misdirection for Unlearning (Li et al. 2024, arXiv 2403.03218): steer a layer's residual stream to a
    random direction on the facts, keep it on the rest, by training the down projections of three layers.

    Reconstructions: the steering coefficient is a multiple of the activations' mean norm (as in adaptive RMU, Huu-Tien et
    al. 2024, arXiv 2408.06223), and every text's first token, the attention sink, is left out.
    """

    name: ClassVar[str] = "rmu"
    learning_rate: float = 1e-3
    """Learning rate of AdamW; with a schedule, that of the first step."""
    layer: int | None = None
    """Layer after which the residual stream is steered; None: 7 of 32, as published, at the same relative depth."""
    steering: float = 5.0
    """c, as a multiple of the mean norm of the facts' activations at that layer."""
    lambda_retain: float = 100.0
    """alpha: weight of the retain term."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.layer is None or self.layer >= 0, f"layer is {self.layer}; it must be at least 0")
        require(self.steering > 0, f"steering is {self.steering}; it must be above 0")

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


METHOD = method(
    Rmu,
    "send a layer's activations on the facts in a random direction, and keep those on other text",
    source="Li et al. 2024, arXiv 2403.03218",
    presets={"WMDP: released run for Zephyr-7B": WMDP_RMU},
    place=120,
)
