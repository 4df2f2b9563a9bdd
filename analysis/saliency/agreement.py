"""Compares saliency results, or one result on two halves of a text, by rank correlation and overlap of top units.

Axes: `L` layer, `N` unit in a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.errors import ConfigError
from analysis.saliency import Saliency

__all__ = ["Agreement", "Reliability", "agreement", "reliability"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """Agreement of every pair of several results; rows and columns have the same labels."""

    spearman: pd.DataFrame
    """Spearman's rank correlation over all units that both measured; NaN if one of them scores all units equally."""
    overlap: pd.DataFrame
    """Share of the top `k` of one result that is in the top `k` of the other; NaN if fewer than `k` units of either have
    a score above 0, as with a sparse probe: units with score 0 would fill the top by index alone."""
    chance: pd.DataFrame
    """Expected overlap of two unrelated results: k / number of units that both measured."""
    p_value: pd.DataFrame
    """Probability that two unrelated results overlap at least as much (hypergeometric); NaN on the diagonal."""
    k: int


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How well two halves of a text agree on the ranking of units."""

    spearman: float
    corrected: float
    """Spearman-Brown: the reliability expected of the whole text, 2r / (1 + r); NaN if the halves do not correlate."""
    overlap: float
    """Share of the top `k` that both halves have in common."""
    chance: float
    p_value: float
    k: int
    n: int
    """Number of units that both halves measured."""


def agreement(results: Sequence[Saliency], *, k: int = 100, labels: Sequence[str] | None = None) -> Agreement:
    """Compare every pair of results; units that either of a pair did not measure (NaN) are left out of that pair.

    Units with equal scores share their average rank in the correlation; for the top `k` the one with the lower index
    comes first, as in `Saliency.order`.

    Args:
        results: Two or more of the same site and shape; they may differ in method, concept or model.
        k: Number of units that count as top.
        labels: Names of the results; default: their concept, method or both, whichever differ.

    Raises:
        ConfigError: fewer than two results, different sites or shapes, or `k` out of range.
    """
    if len(results) < 2:
        raise ConfigError("Agreement needs at least two results. Measure another method, concept or half of the text.")
    names = _labels(results) if labels is None else list(labels)
    if len(set(names)) != len(results):
        raise ConfigError(f"There are {len(results)} results but {len(set(names))} different labels. Give one each.")
    frames = {
        name: pd.DataFrame(np.full((len(names), len(names)), np.nan), index=names, columns=names)
        for name in ("spearman", "overlap", "chance", "p_value")
    }
    for i in range(len(results)):
        for j in range(i, len(results)):
            pair = _compare(results[i], results[j], k)
            for name, value in pair.items():
                if name in frames and not (name == "p_value" and i == j):
                    frames[name].iloc[i, j] = frames[name].iloc[j, i] = value
    return Agreement(**frames, k=k)


def reliability(first: Saliency, second: Saliency, *, k: int = 100) -> Reliability:
    """Measure how well the ranking replicates: the same concept and method on two halves of the sentences.

    Raises:
        ConfigError: the results are not of the same concept, method, site and shape, or `k` is out of range.
    """
    if (first.concept, first.method) != (second.concept, second.method):
        raise ConfigError(
            f"The halves are of “{first.concept}” by {first.method} and “{second.concept}” by {second.method}. "
            "Measure the same concept by the same method on both halves."
        )
    pair = _compare(first, second, k)
    r = pair["spearman"]
    return Reliability(
        spearman=r,
        corrected=2 * r / (1 + r) if r > 0 else float("nan"),
        overlap=pair["overlap"],
        chance=pair["chance"],
        p_value=pair["p_value"],
        k=k,
        n=int(pair["n"]),
    )


def _compare(first: Saliency, second: Saliency, k: int) -> dict[str, float]:
    """Compute spearman, overlap, chance, p_value and n of one pair."""
    a, b = first.scores_LN, second.scores_LN
    if a.shape != b.shape or first.site != second.site:
        raise ConfigError(
            f"{a.shape[0]} x {a.shape[1]} units at {first.site} cannot be compared with {b.shape[0]} x {b.shape[1]} at "
            f"{second.site}. Measure both at the same site of models of one shape."
        )
    measured = np.isfinite(a) & np.isfinite(b)
    x, y = a[measured], b[measured]
    n = x.size
    if not 1 <= k < n:
        raise ConfigError(f"k is {k}, but the results share {n:,} measured units; k must be at least 1 and below that.")
    tops = [np.argsort(-scores, kind="stable")[:k] for scores in (x, y)]
    pair = {"spearman": float("nan"), "overlap": float("nan"), "chance": k / n, "p_value": float("nan"), "n": n}
    if np.ptp(x) > 0 and np.ptp(y) > 0:
        correlation: Any = stats.spearmanr(x, y)
        pair["spearman"] = float(correlation.statistic)
    if all(scores[top[-1]] > 0 for scores, top in zip((x, y), tops)):
        common = np.intersect1d(*tops, assume_unique=True).size
        pair |= {"overlap": common / k, "p_value": float(stats.hypergeom.sf(common - 1, n, k, k))}
    return pair


def _labels(results: Sequence[Saliency]) -> list[str]:
    """Label results by concept, method or both, whichever differ; equal labels are numbered."""
    concepts, methods = ({getattr(result, name) for result in results} for name in ("concept", "method"))
    names = []
    for result in results:
        parts = [result.concept] * (len(concepts) > 1) + [result.method] * (len(methods) > 1 or len(concepts) == 1)
        name, times = " · ".join(parts), 1
        while name in names:
            times += 1
            name = f"{' · '.join(parts)} ({times})"
        names.append(name)
    return names
