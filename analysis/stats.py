"""Statistics that several parts need: Wilson's interval of a share, and how often each case counts in a bootstrap resample.

Axes: `R` resample, `S` case (sentence, fact).
"""

import numpy as np

__all__ = ["Z_95", "resample_counts", "wilson"]

Z_95 = 1.959964
"""Two-sided 95% quantile of the standard normal distribution, to seven digits."""


def wilson(share: np.ndarray, n: int, z: float = Z_95) -> tuple[np.ndarray, np.ndarray]:
    """Score interval of shares of `n` independent cases (Wilson 1927).

    Args:
        share: Shares, 0 to 1, of any shape.
        n: Number of cases of each share.
        z: Two-sided quantile of the normal distribution: 95% by default.

    Returns:
        Lower and upper ends. Rounding can put an end slightly below 0 or above 1.
    """
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def resample_counts(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """How often each of `n` cases is drawn in each bootstrap resample (with replacement, `n` draws each), int64, [R, S]."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
