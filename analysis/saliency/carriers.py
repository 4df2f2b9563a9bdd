"""Ranks units by score, scales the ranks, and defines a concept's carriers: the top 1% of units.

A unit *carries* a concept when it is among the `CARRIER_SHARE` of all units with the highest scores.

Axes: `L` layer, `N` unit in a layer.
"""

import numpy as np
from scipy import stats

__all__ = [
    "CARRIER_SHARE",
    "carried_ranks",
    "carrier_count",
    "carrier_threshold",
    "lowest_ranks",
    "order",
    "rank_normalise",
    "rank_saliency",
    "ranks",
]

CARRIER_SHARE = 0.01
"""Share of a model's units that carry a concept, by definition."""


def order(scores_LN: np.ndarray) -> np.ndarray:
    """Flat indices from most to least salient; ties go to the lower index, unmeasured units (NaN) come last."""
    return np.argsort(-np.nan_to_num(scores_LN, nan=-np.inf), axis=None, kind="stable")


def ranks(scores_LN: np.ndarray) -> np.ndarray:
    """0-based rank over all units of the model, 0 = most salient, int64, [L, N]; ties as in `order`."""
    ranks = np.empty(scores_LN.size, dtype=np.int64)
    ranks[order(scores_LN)] = np.arange(ranks.size)
    return ranks.reshape(scores_LN.shape)


def rank_normalise(scores_LN: np.ndarray) -> np.ndarray:
    """Rank of each unit scaled to [0, 1]: 1 = most salient of the model, 0 = least; unmeasured units stay NaN.

    Ties go to the lower index, as in `order`.
    """
    measured = np.isfinite(scores_LN)
    places = ranks(np.where(measured, scores_LN, np.nan))
    return np.where(measured, 1 - places / max(int(measured.sum()) - 1, 1), np.nan)


def lowest_ranks(scores_LN: np.ndarray) -> np.ndarray:
    """Rank the measured units from 0 = least to 1 = most salient; equal scores share the lowest of their ranks.

    Pruned neurons, which all score 0, therefore all rank 0 instead of being ordered by index.
    """
    ranks_LN = np.full(scores_LN.shape, np.nan)
    measured = np.isfinite(scores_LN)
    places = stats.rankdata(scores_LN[measured], method="min") - 1
    ranks_LN[measured] = places / max(places.size - 1, 1)
    return ranks_LN


def rank_saliency(ranks_LN: np.ndarray) -> np.ndarray:
    """The paper's figure scale (Lo, Cohen & Barez 2024): ranks in bins of 100, 1 = top bin, 0 = bottom.

    With i the 0-based rank and n the number of neurons: p = floor(i / 100) + 1, s = |(p - n/100) / (1 - n/100)|.
    A model of 100 neurons or fewer has a single bin, where s is defined as 1. (With a few hundred neurons, a last bin
    that is not full can come out slightly off 0: the formula is the paper's.)
    """
    n = ranks_LN.size
    if n <= 100:
        return np.ones(ranks_LN.shape)
    bins = ranks_LN // 100 + 1
    return np.abs((bins - n / 100) / (1 - n / 100))


def carried_ranks(scores_LN: np.ndarray) -> np.ndarray:
    """The rank saliency of scores, [L, N], but 0 for every unit whose score is 0.

    A sparse method such as the probe scores most units 0, as every method does pruned neurons. The ranks of such units
    depend only on their index, and would put all those of the first layers above those of the last.
    """
    return np.where(scores_LN > 0, rank_saliency(ranks(scores_LN)), 0.0)


def carrier_count(n: int, share: float = CARRIER_SHARE) -> int:
    """Number of units in the top share of `n` units; at least one."""
    return max(round(share * n), 1)


def carrier_threshold(base_LN: np.ndarray, share: float = CARRIER_SHARE) -> float:
    """The score of the last neuron in the top share of the unedited model."""
    count = carrier_count(base_LN.size, share)
    return float(np.partition(base_LN, -count, axis=None)[-count])
