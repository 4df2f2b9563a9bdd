"""Average precision: how high a concept's tokens rank when tokens are ranked by a unit's activation.

Axes: `L` layer, `N` unit in a layer, `S` sampled tokens.
"""

import numpy as np
import torch

from analysis.components.sites import MLP, RESIDUAL
from analysis.progress import ShareDone
from analysis.saliency.method import SampleMethod, SampleScores
from analysis.saliency.moments import ConceptSample, TokenSample

__all__ = ["METHOD", "average_precision"]


def average_precision(sample: TokenSample, chosen: ConceptSample) -> np.ndarray:
    """Average precision of every unit as a ranking of tokens, [L, N], negative if low activation marks the concept.

    The larger value of two directions counts: ranking by the activation, or by its negation. Precision at a concept token
    is taken over all tokens at least as active, ties included; sampled tokens count with their weights.
    """
    values_SLN = sample.values_SLN
    device = values_SLN.device
    own = torch.as_tensor(chosen.rows[chosen.labels], device=device)
    other = torch.as_tensor(chosen.rows[~chosen.labels], device=device)
    own_weight = float(chosen.weights[chosen.labels][0])
    other_weight = float(chosen.weights[~chosen.labels][0])
    scores = []
    for layer in range(values_SLN.shape[1]):
        own_NS = values_SLN[own, layer].T.contiguous().sort(dim=1).values
        other_NS = values_SLN[other, layer].T.contiguous().sort(dim=1).values
        both = []
        for sign in (1, -1):
            a, b = (own_NS, other_NS) if sign == 1 else (-own_NS.flip(1), -other_NS.flip(1))
            a, b = a.contiguous(), b.contiguous()
            own_above = (a.shape[1] - torch.searchsorted(a, a)) * own_weight
            other_above = (b.shape[1] - torch.searchsorted(b, a)) * other_weight
            both.append((own_above / (own_above + other_above)).double().mean(1))
        scores.append(torch.where(both[0] >= both[1], both[0], -both[1]).cpu().numpy())
    return np.stack(scores)


def _score(sample: TokenSample, chosen: ConceptSample, *, seed: int, progress: ShareDone | None) -> SampleScores:
    own = chosen.weights[chosen.labels].sum()
    return SampleScores(
        signed_LN=average_precision(sample, chosen), provenance={"base_rate": float(own / chosen.weights.sum())}
    )


METHOD = SampleMethod(
    name="average_precision",
    title="average precision",
    says="How well the activation alone finds the concept's words: 1 = it ranks all of them above all others.",
    unit="average precision, 0 to 1: how far up concept tokens come when tokens are ranked by activation",
    axis="average precision",
    source="Suau et al. 2020",
    sites=(MLP, RESIDUAL),
    score=_score,
    place=30,
)
