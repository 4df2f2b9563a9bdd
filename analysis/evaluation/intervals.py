"""Computes 95% intervals over independent cases: facts for P(answer), sentences for losses and KL.

Axes: `S` sentence, `R` resample.
"""

from collections.abc import Callable, Sequence

import numpy as np

from analysis.evaluation.result import Measure
from analysis.stats import resample_counts, wilson

__all__ = ["N_RESAMPLES", "blocks", "mean", "share"]

N_RESAMPLES = 2000
"""Bootstrap resamples; drawn with a fixed seed, so that equal numbers get equal intervals."""
_SEED = 0


def share(name: str, right: Sequence[bool] | np.ndarray, *, counts: str, unit: str, note: str = "") -> Measure:
    """Share of true cases, with Wilson's interval (1927)."""
    values = np.asarray(right, dtype=np.float64)
    low, high = wilson(values.mean(keepdims=True), len(values))
    # rounding may put an end that should be 0 or 1 slightly beyond it
    ends = max(float(low[0]), 0.0), min(float(high[0]), 1.0)
    return Measure(
        name=name,
        value=float(values.mean()),
        low=ends[0],
        high=ends[1],
        n=len(values),
        counts=counts,
        unit=unit,
        note=note,
    )


def mean(
    name: str, values: Sequence[float] | np.ndarray, *, counts: str, unit: str, note: str = "", bounded: bool = True
) -> Measure:
    """Mean of one value per case, with a percentile bootstrap over cases.

    Args:
        name: Name of the measure.
        values: One value per case.
        counts: The kind of case.
        unit: Unit of the values.
        note: Note of the measure.
        bounded: Values lie in [0, 1]. Then a single case has the interval [0, 1], and equal values have Wilson's, which
            is the widest that values in [0, 1] can need: resampling either would give an interval of width 0.
    """
    array = np.asarray(values, dtype=np.float64)
    value = float(array.mean())
    if bounded and len(array) == 1:
        low, high = 0.0, 1.0
    elif bounded and np.ptp(array) == 0:
        low_1, high_1 = wilson(np.clip(array[:1], 0, 1), len(array))
        low, high = max(float(low_1[0]), 0.0), min(float(high_1[0]), 1.0)
    else:
        draws_RS = resample_counts(len(array), N_RESAMPLES, _SEED)
        low, high = np.quantile(draws_RS @ array / len(array), [0.025, 0.975]).tolist()
    return Measure(name=name, value=value, low=low, high=high, n=len(array), counts=counts, unit=unit, note=note)


def blocks(
    statistic: Callable[[np.ndarray], Sequence[float]], n_blocks: int, *, n_resamples: int = N_RESAMPLES
) -> np.ndarray:
    """95% intervals of statistics of text by resampling whole sentences: [2, number of statistics].

    Args:
        statistic: Takes how often each sentence counts, [S], and returns the statistics.
        n_blocks: Number of sentences.
        n_resamples: Bootstrap resamples.
    """
    values = [statistic(weights_S) for weights_S in resample_counts(n_blocks, N_RESAMPLES, _SEED)[:n_resamples]]
    return np.quantile(np.array(values, dtype=np.float64), [0.025, 0.975], axis=0)
