"""Summarises scores by layer: means with intervals, and each layer's share of the units above a threshold.

Axes: `L` layer, `N` unit in a layer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from analysis.stats import wilson

__all__ = ["LayerFigures", "layer_means", "layer_shares"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerFigures:
    """One number per layer, with its confidence interval."""

    values_L: np.ndarray
    low_L: np.ndarray
    high_L: np.ndarray
    n_L: np.ndarray
    """Number of units behind each value."""


def layer_means(scores_LN: np.ndarray, *, level: float = 0.95) -> LayerFigures:
    """Mean score of each layer, with Student's interval over its units; unmeasured units are left out.

    The interval treats a layer's units as a random sample. It does not cover the choice of sentences.
    """
    measured_LN = np.isfinite(scores_LN)
    n_L = measured_LN.sum(axis=1)
    known_LN = np.where(measured_LN, scores_LN, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_L = known_LN.sum(axis=1) / n_L
        squares_L = (np.where(measured_LN, scores_LN - mean_L[:, None], 0.0) ** 2).sum(axis=1)
        error_L = np.sqrt(squares_L / (n_L - 1) / n_L)
    reach_L = stats.t.ppf((1 + level) / 2, np.maximum(n_L - 1, 1)) * error_L
    return LayerFigures(values_L=mean_L, low_L=mean_L - reach_L, high_L=mean_L + reach_L, n_L=n_L)


def layer_shares(rank_saliency_LN: np.ndarray, threshold: float = 0.5, *, level: float = 0.95) -> LayerFigures:
    """Share in each layer of all units with a rank saliency above `threshold` (Lo, Cohen & Barez 2024).

    The shares of all layers add up to 1; without differences between layers each is 1 / L. The interval is Wilson's, which
    treats units as independent. Values are NaN if no unit is above the threshold.
    """
    counts_L = (rank_saliency_LN > threshold).sum(axis=1)
    total = int(counts_L.sum())
    if not total:
        nothing_L = np.full(len(counts_L), np.nan)
        return LayerFigures(values_L=nothing_L, low_L=nothing_L, high_L=nothing_L, n_L=counts_L)
    share_L = counts_L / total
    z: Any = stats.norm.ppf((1 + level) / 2)
    low_L, high_L = wilson(share_L, total, z)
    return LayerFigures(values_L=share_L, low_L=low_L, high_L=high_L, n_L=counts_L)
