"""Standardised (d'): the difference of mean activations, divided by the pooled standard deviation.

d' = (q - q') / sqrt((variance of the concept's tokens + variance of the others) / 2). Saliency, snapshots on the device
and bootstrap resamples all use this definition.
"""

import numpy as np
import torch
from torch import Tensor

from analysis.components.sites import MLP, RESIDUAL
from analysis.saliency.method import Array, Groups, MomentMethod

__all__ = ["METHOD", "STILL", "in_deviations"]

STILL = 1e-12
"""A unit with a smaller pooled deviation is constant, such as a pruned one, and its d' is 0, not 0/0."""


def in_deviations(values: Array, groups: Groups[Array]) -> Array:
    """Convert differences of activations, or their standard errors, to pooled standard deviations; 0 for constant units.

    The pooled deviation is treated as known, since its own error is of a smaller order. NaN stays NaN.
    """
    variance = (groups.own_variance + groups.other_variance) / 2
    if isinstance(values, Tensor) and isinstance(variance, Tensor):
        pooled = torch.sqrt(variance)
        still = pooled <= STILL
        return torch.where(
            still, torch.zeros_like(values), values / torch.where(still, torch.ones_like(pooled), pooled)
        )
    pooled = np.sqrt(variance)
    still = pooled <= STILL
    return np.where(still, 0.0, values / np.where(still, 1.0, pooled))


METHOD = MomentMethod(
    name="standardised",
    title="standardised, d′",
    says="How far apart the mean activations on the concept's words and on others are, in standard deviations: loud "
    "neurons do not win by being loud.",
    unit="pooled standard deviations (d'): |difference of means| / pooled standard deviation",
    axis="standard deviations (d')",
    sites=(MLP, RESIDUAL),
    signed=lambda groups: in_deviations(groups.difference, groups),
    error=in_deviations,
    place=20,
)
