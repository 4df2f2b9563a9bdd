"""Interface of a task: what is trained on, its loss, and its scores.

Axes: `F` fact or labelled word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from analysis.relearning.snapshot import FactTable

__all__ = ["Scores", "Task"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How well the model does at one moment."""

    p_retrained_F: np.ndarray
    """Of everything that is trained on, the probability of being right."""
    p_held_out_F: np.ndarray
    """Of everything that is never trained on."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What else the task is judged by."""


@runtime_checkable
class Task(Protocol):
    """Prepared once, on the model before it is edited; rows and probes stay the same."""

    @property
    def facts(self) -> FactTable:
        """The facts it uses; a task may use none."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """How much else it trains on and is scored on, by name."""
        ...

    @property
    def rows(self) -> Mapping[str, Sequence[Any]]:
        """What batches are drawn from, by kind: those of `RelearnConfig.counts`."""
        ...

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """What is trained besides the model's weights."""
        ...

    def n_counted(self, rows: Sequence[Any]) -> int:
        """How many tokens of these rows have a loss."""
        ...

    def loss(self, rows: Sequence[Any]) -> Tensor:
        """Summed over these tokens, in nats; with gradients."""
        ...

    def measure(self) -> dict[str, Tensor]:
        """Begin to score the model: results by name, on its device, not waited for."""
        ...

    def scores(self, results: Mapping[str, np.ndarray]) -> Scores:
        """The scores from what `measure` gave, once it has arrived."""
        ...
