"""How many concepts a neuron carries, and whether neurons close to a concept take it over.

Axes: `C` concept, `L` layer, `N` unit in a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.errors import ConfigError
from analysis.saliency import Saliency

__all__ = ["BCA_LIMIT", "ConceptProfiles", "Priming", "concept_profiles", "lowest_ranks", "priming"]

BCA_LIMIT = 1000
"""Up to so many neurons the interval is bias-corrected and accelerated; its jackknife costs the square of this."""

_BATCH = 2**22
"""Most numbers that are resampled at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptProfiles:
    """Each neuron's rank for each of several concepts."""

    concepts: tuple[str, ...]
    method: str
    ranks_CLN: np.ndarray
    """Rank-normalised scores, float64: 1 = the most salient unit for the concept, 0 = the least; equal scores share the
    lowest of their ranks. NaN where a unit was not measured."""

    def count(self, threshold: float = 0.9) -> np.ndarray:
        """Number of concepts for which a neuron ranks above `threshold`, [L, N]; NaN where it was not measured.

        Its mean over *all* neurons is C x (1 - threshold) whatever the model does, because ranks are spread evenly for
        every concept. What can change is how it is spread (`share`), and its mean over chosen neurons: for neurons
        chosen by one of the concepts, unrelated concepts would give 1 + (C - 1) x (1 - threshold).
        """
        _check_share("threshold", threshold)
        measured_LN = np.isfinite(self.ranks_CLN).all(axis=0)
        return np.where(measured_LN, (self.ranks_CLN > threshold).sum(axis=0), np.nan)

    def share(self, at_least: int = 2, threshold: float = 0.9) -> float:
        """Share of the measured neurons that rank above `threshold` for `at_least` so many concepts."""
        counts_LN = self.count(threshold)
        return float((counts_LN[np.isfinite(counts_LN)] >= at_least).mean())

    def expected_share(self, at_least: int = 2, threshold: float = 0.9) -> float:
        """What `share` would be if concepts ranked neurons independently (binomial)."""
        _check_share("threshold", threshold)
        return float(stats.binom.sf(at_least - 1, len(self.concepts), 1 - threshold))

    def entropy(self, floor: float = 0.5) -> np.ndarray:
        """Entropy of each neuron's profile in bits, [L, N]: 0 = one concept, log2(C) = all concepts alike.

        A rank r becomes the weight max(r - floor, 0), and the weights of a neuron are divided by their sum. A unit below
        the floor for every concept carries none of them: NaN, as is one that was not measured. With the default floor
        a neuron that ranks below the median for a concept does not carry it. Without any floor (0) every neuron is a
        mixture of all concepts, and one that is weak for all of them has the same entropy as one that is strong for
        all. Entropy says how evenly, not how strongly: read it beside `count`.
        """
        _check_share("floor", floor)
        weights_CLN = np.maximum(self.ranks_CLN - floor, 0)
        total_LN = weights_CLN.sum(axis=0)
        shares_CLN = np.divide(weights_CLN, total_LN, out=np.full_like(weights_CLN, np.nan), where=total_LN > 0)
        logs_CLN = np.log2(shares_CLN, out=np.zeros_like(shares_CLN), where=shares_CLN > 0)
        # 0 - x, because the negative of an entropy of 0 would be -0
        return 0.0 - (shares_CLN * logs_CLN).sum(axis=0)

    def table(self, *, threshold: float = 0.9, floor: float = 0.5) -> pd.DataFrame:
        """One row a unit: layer, neuron, a rank for each concept, n_concepts (above `threshold`) and entropy in bits."""
        layers, neurons = np.indices(self.ranks_CLN.shape[1:])
        return pd.DataFrame(
            {
                "layer": layers.ravel().astype(np.int32),
                "neuron": neurons.ravel().astype(np.int32),
                **{f"rank of {name}": ranks.ravel() for name, ranks in zip(self.concepts, self.ranks_CLN)},
                "n_concepts": self.count(threshold).ravel(),
                "entropy": self.entropy(floor).ravel(),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Priming:
    """Rank correlation between how close neurons were to a concept before and how salient they are for it later."""

    correlation: float
    """Spearman's."""
    low: float
    high: float
    """Confidence interval over neurons."""
    level: float
    n: int
    """Neurons with both values."""
    interval: str
    """How the interval was made: “BCa” or “percentile”."""
    n_resamples: int


def concept_profiles(results: Sequence[Saliency]) -> ConceptProfiles:
    """Profiles from the saliency of several concepts by one method at one site of one model.

    Raises:
        ConfigError: fewer than two concepts, a concept twice, or results that cannot be compared.
    """
    names = tuple(result.concept for result in results)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError("A concept profile needs two or more different concepts. Measure more concepts.")
    kinds = {(result.method, str(result.site), result.scores_LN.shape) for result in results}
    if len(kinds) > 1:
        raise ConfigError(
            "The results differ in method, site or shape, so their ranks do not compare. Measure all concepts in the "
            "same way on the same model."
        )
    ranks_CLN = np.stack([lowest_ranks(result.scores_LN) for result in results])
    return ConceptProfiles(concepts=names, method=results[0].method, ranks_CLN=ranks_CLN)


def priming(
    similarity_before: np.ndarray,
    saliency_after: np.ndarray,
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Priming:
    """Do neurons that were close to the concept before the edit carry it later? Spearman's rank correlation.

    The interval comes from resampling neurons: BCa up to `BCA_LIMIT` neurons, percentiles above. It takes neurons as
    independent and knows nothing of how the result would differ with another seed, text or edit.

    Args:
        similarity_before: One value a neuron, such as `word_similarity.similarity_to_words`; NaN are left out.
        saliency_after: The score of the same neurons after relearning; NaN are left out.
        level: Confidence level.
        n_resamples: Bootstrap resamples.
        seed: Draws them.

    Raises:
        ConfigError: the arrays differ in shape, have too few pairs, or one of them does not vary; or a setting is out
            of range.
    """
    if similarity_before.shape != saliency_after.shape:
        raise ConfigError(
            f"There are {similarity_before.size} similarities but {saliency_after.size} scores. Give both for the same "
            "neurons."
        )
    if not 0 < level < 1:
        raise ConfigError(f"The confidence level is {level}; it must lie between 0 and 1, such as 0.95.")
    if n_resamples < 100:
        raise ConfigError(f"The number of resamples is {n_resamples}; it must be at least 100.")
    both = np.isfinite(similarity_before) & np.isfinite(saliency_after)
    x, y = similarity_before[both].astype(np.float64), saliency_after[both].astype(np.float64)
    if x.size < 5:
        raise ConfigError(
            f"Only {x.size} neurons have both values; a correlation needs at least 5. Choose more neurons."
        )
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ConfigError(
            "All neurons have the same value, so nothing correlates. Choose other neurons or a longer text."
        )
    kind = "BCa" if x.size <= BCA_LIMIT else "percentile"
    with np.errstate(invalid="ignore"):  # a resample of one neuron only; it is left out
        found: Any = stats.bootstrap(
            (x, y),
            _spearman,
            paired=True,
            vectorized=True,
            n_resamples=n_resamples,
            batch=max(_BATCH // x.size, 1),
            confidence_level=level,
            method=kind,
            rng=np.random.default_rng(seed),
        )
    return Priming(
        correlation=float(_spearman(x, y)),
        low=float(found.confidence_interval.low),
        high=float(found.confidence_interval.high),
        level=level,
        n=int(x.size),
        interval=kind,
        n_resamples=n_resamples,
    )


def _spearman(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray | np.floating:
    """Pearson's correlation of average ranks along an axis."""
    a, b = (stats.rankdata(values, axis=axis) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=axis, keepdims=True) for ranks in (a, b))
    return (a * b).sum(axis=axis) / np.sqrt((a**2).sum(axis=axis) * (b**2).sum(axis=axis))


def lowest_ranks(scores_LN: np.ndarray) -> np.ndarray:
    """0 = least to 1 = most salient among the measured units; equal scores share the lowest of their ranks.

    So pruned neurons, which all score 0, rank 0, instead of being told apart by their position.
    """
    ranks_LN = np.full(scores_LN.shape, np.nan)
    measured = np.isfinite(scores_LN)
    ranks = stats.rankdata(scores_LN[measured], method="min") - 1
    ranks_LN[measured] = ranks / max(ranks.size - 1, 1)
    return ranks_LN


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"The {name} is {value}; it must be at least 0 and below 1.")
