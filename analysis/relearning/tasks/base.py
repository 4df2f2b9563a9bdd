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
    """Scores of the model at one moment."""

    p_retrained_F: np.ndarray
    """Probability of the right answer (or tags) for everything that is trained on, [F]."""
    p_held_out_F: np.ndarray
    """The same for everything that is never trained on, [F]."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Further scores, by name."""


@runtime_checkable
class Task(Protocol):
    """A task, prepared once on the unedited model; its rows and probes stay the same."""

    @property
    def facts(self) -> FactTable:
        """The facts it uses; a task may use none."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Numbers of other items that it trains on or is scored on, by name."""
        ...

    @property
    def rows(self) -> Mapping[str, Sequence[Any]]:
        """Training rows to draw batches from, by kind as in `RelearnConfig.counts`."""
        ...

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """Parameters that are trained besides the model's weights."""
        ...

    def n_counted(self, rows: Sequence[Any]) -> int:
        """Number of tokens of these rows that have a loss."""
        ...

    def loss(self, rows: Sequence[Any]) -> Tensor:
        """Loss summed over the tokens that `n_counted` counts, in nats; with gradients."""
        ...

    def measure(self) -> dict[str, Tensor]:
        """Start scoring the model: results by name, on its device, without waiting for them."""
        ...

    def scores(self, results: Mapping[str, np.ndarray]) -> Scores:
        """The scores from the results of `measure`, copied to the CPU."""
        ...
