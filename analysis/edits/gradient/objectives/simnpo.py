"""SimNPO: NPO without a reference model, normalised by length."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from analysis.edits.gradient import losses
from analysis.edits.gradient.edit import KeepingEdit, Term, check_beta
from analysis.edits.method import method

__all__ = ["METHOD", "SimNpo"]


@dataclass(frozen=True, kw_only=True)
class SimNpo(KeepingEdit):
    """SimNPO: NPO without a reference model, normalised by length (Fan et al. 2024, arXiv 2410.07163)."""

    name: ClassVar[str] = "simnpo"
    learning_rate: float = 2e-4
    """Learning rate of AdamW; with a schedule, that of the first step."""
    beta: float = 2.5
    """Inverse temperature."""
    gamma: float = 0.0
    """Margin."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_beta(self.beta)

    def terms(self) -> tuple[Term, ...]:
        loss = partial(losses.simnpo, beta=self.beta, gamma=self.gamma)
        return (Term("forget", self.lambda_forget, "length", loss), *self.kept())


METHOD = method(
    SimNpo,
    "NPO by the mean token, without comparing with the model before",
    source="Fan et al. 2024, arXiv 2410.07163",
    place=110,
)
