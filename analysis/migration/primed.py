"""Tests priming: whether the neurons that carry a concept now were close to it before the edit.

Spearman's rank correlation over neurons, with a bootstrap interval. Ranking every resample takes many seconds. With tens of
thousands of neurons the ranks in a resample are nearly proportional to those among all neurons, so neurons are ranked once
and their pairs of ranks are resampled.

Axes: `K` unedited neuron.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.components.neurons import NeuronSet
from analysis.errors import ConfigError
from analysis.migration.measures import scaled
from analysis.relearning import Snapshot
from analysis.saliency.carriers import rank_normalise

__all__ = ["PrimedNeurons", "Priming", "primed"]

RESAMPLES = 200
"""Enough for the two digits of a 95% interval that are shown."""

_BATCH = 2**21
"""Most ranks that are resampled at once."""


@dataclass(frozen=True, kw_only=True)
class Priming:
    """Rank correlation between how salient neurons were for a concept before and how salient they are for it later."""

    correlation: float
    """Spearman's."""
    low: float
    high: float
    """Percentile bootstrap interval over neurons."""
    level: float
    n: int
    """Neurons with both values."""
    n_resamples: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PrimedNeurons:
    """Every unedited neuron's rank for a concept before the edit and now."""

    neurons: NeuronSet
    before_K: np.ndarray
    """Rank in the unedited model among all neurons, 0 to 1 = the most salient."""
    now_K: np.ndarray
    """Rank now, among all neurons, on the same scale."""
    priming: Priming
    """Spearman's rank correlation of the scores behind the two, with its bootstrap interval."""


def primed(
    base: Snapshot,
    now: Snapshot,
    concept: str,
    scale: str,
    edited: NeuronSet,
    *,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> PrimedNeurons:
    """Rank before the edit against rank now, over all unedited neurons.

    Most neurons hardly change in a short training, so the correlation is high in any run: compare it
    with the control run to see the effect of the edit. The interval is over neurons, not over seeds.

    Raises:
        ConfigError: the concept was not tracked, the scale is unknown, or too few neurons are left to correlate.
    """
    base_LN, now_LN = scaled(base, concept, scale), scaled(now, concept, scale)
    free = ~edited.mask()
    return PrimedNeurons(
        neurons=NeuronSet.from_mask(free),
        before_K=rank_normalise(base_LN)[free],
        now_K=rank_normalise(now_LN)[free],
        priming=_correlate(base_LN[free], now_LN[free], n_resamples, seed),
    )


def _correlate(before_K: np.ndarray, now_K: np.ndarray, n_resamples: int, seed: int) -> Priming:
    known_K = np.isfinite(before_K) & np.isfinite(now_K)
    x_K, y_K = before_K[known_K], now_K[known_K]
    if x_K.size < 5 or np.ptp(x_K) == 0 or np.ptp(y_K) == 0:
        raise ConfigError("Too few neurons with different scores are left to correlate. Choose another step or scale.")
    ranks = tuple(stats.rankdata(values).astype(np.float32) - (x_K.size + 1) / 2 for values in (x_K, y_K))
    found = stats.bootstrap(
        ranks,
        _pearson,
        paired=True,
        vectorized=True,
        n_resamples=n_resamples,
        batch=max(_BATCH // x_K.size, 1),
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Priming(
        correlation=float(_pearson(*ranks)),
        low=float(found.confidence_interval.low),
        high=float(found.confidence_interval.high),
        level=0.95,
        n=int(x_K.size),
        n_resamples=n_resamples,
    )


def _pearson(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray | np.floating:
    x, y = (values - values.mean(axis=axis, keepdims=True, dtype=np.float64) for values in (x, y))
    return (x * y).sum(axis=axis) / np.sqrt((x * x).sum(axis=axis) * (y * y).sum(axis=axis))
