"""Holds the result of a saliency method: scores, ranks, p and q values, and the table of all units.

Axes: `L` layer, `N` unit in a layer (neuron, residual dimension, head).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.components.sites import MLP
from analysis.errors import ConfigError
from analysis.saliency.carriers import order, rank_saliency, ranks
from analysis.saliency.methods import METHODS

__all__ = ["Saliency"]


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """A score for each unit, higher = carries the concept more strongly. NaN = not measured."""

    concept: str
    method: str
    scores_LN: np.ndarray
    """float64, [L, N]."""
    n_concept_tokens: int
    n_other_tokens: int
    signed_LN: np.ndarray | None = None
    """Signed score: above 0, the unit is more active on the concept, or supports the answer."""
    standard_error_LN: np.ndarray | None = None
    """Standard error of `signed_LN` over independent sentences or facts; NaN if there are fewer than two; None if the
    method has none (bootstrap it)."""
    n_independent: int = 0
    """Number of sentences or facts that the standard error counts as independent."""
    layers: dict[str, np.ndarray] = field(default_factory=dict)
    """Further values for each layer, [L] each: a probe's held-out accuracy, a path's completeness error."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Model, text and settings behind the scores."""
    site: str = MLP.name

    @property
    def unit(self) -> str:
        return METHODS[self.method].unit

    @property
    def order(self) -> np.ndarray:
        """Flat indices from most to least salient; ties go to the lower index, unmeasured units come last."""
        return order(self.scores_LN)

    @property
    def ranks_LN(self) -> np.ndarray:
        """0-based rank over all units of the model, 0 = most salient."""
        return ranks(self.scores_LN)

    @property
    def n_measured(self) -> int:
        """Number of units with a score."""
        return int(np.isfinite(self.scores_LN).sum())

    def p_values(self) -> np.ndarray:
        """Two-sided p-value of zero effect for each unit (t-test over independent sentences or facts), [L, N].

        Raises:
            ConfigError: the method has no standard error.
        """
        if self.standard_error_LN is None or self.signed_LN is None:
            raise ConfigError(f"{self.method} gives no standard error. Bootstrap its scores, or use another method.")
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.abs(self.signed_LN) / self.standard_error_LN
        p = 2 * stats.t.sf(t, max(self.n_independent - 1, 1))
        dead = (self.standard_error_LN == 0) & (self.signed_LN == 0)  # constant units are no evidence
        return np.where(dead, 1.0, p)

    def q_values(self) -> np.ndarray:
        """q-value of each unit: the least false-discovery rate at which it passes (Benjamini & Hochberg 1995), [L, N].

        Raises:
            ConfigError: the method has no standard error.
        """
        p = self.p_values()
        measured = np.isfinite(p)
        q = np.full(p.shape, np.nan)
        if measured.any():
            q[measured] = stats.false_discovery_control(p[measured], method="bh")
        return q

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Confidence interval of `signed_LN`, from its standard error.

        Raises:
            ConfigError: the method has no standard error.
        """
        if self.standard_error_LN is None or self.signed_LN is None:
            raise ConfigError(f"{self.method} gives no standard error. Bootstrap its scores, or use another method.")
        reach = stats.t.ppf((1 + level) / 2, max(self.n_independent - 1, 1)) * self.standard_error_LN
        return self.signed_LN - reach, self.signed_LN + reach

    def table(self) -> pd.DataFrame:
        """Return one row per unit: layer, neuron, score, rank (0 = most salient), rank_saliency (1 = top, 0 = bottom).

        Further columns, if the method has them: signed (the signed score), standard_error, p and q (`q_values`).
        """
        layers, units = np.indices(self.scores_LN.shape)
        columns = {
            "layer": layers.astype(np.int32),
            "neuron": units.astype(np.int32),
            "score": self.scores_LN,
            "rank": self.ranks_LN,
            "rank_saliency": rank_saliency(self.ranks_LN),
        }
        if self.signed_LN is not None:
            columns["signed"] = self.signed_LN
        if self.standard_error_LN is not None:
            columns |= {"standard_error": self.standard_error_LN, "p": self.p_values(), "q": self.q_values()}
        return pd.DataFrame({name: values.ravel() for name, values in columns.items()})
