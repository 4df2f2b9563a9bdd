"""Saliency from a streamed pass: probeless, d', average precision, and the probe's weights.

Axes: `L` layer, `N` unit in a layer, `S` sampled tokens.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from analysis.components.sites import HEADS
from analysis.errors import ConfigError
from analysis.saliency import probe
from analysis.saliency.moments import ConceptSample, Moments, TokenSample
from analysis.saliency.result import MOMENT_METHODS, Saliency

__all__ = ["average_precision", "from_moments", "from_sample"]


def from_moments(
    moments: Moments, concept: str, method: str, provenance: dict[str, Any] | None = None, *, n_heads: int = 1
) -> Saliency:
    """Scores of one concept by one of `MOMENT_METHODS` from already streamed moments.

    At the site of attention heads probeless is the length of the vector q(concept) - q(other) of each of the `n_heads`
    heads. (It has no sign and no standard error there.)

    Raises:
        ConfigError: the method needs more than moments.
    """
    if method not in MOMENT_METHODS:
        raise ConfigError(f"{method} cannot be computed from means and variances. Use {' or '.join(MOMENT_METHODS)}.")
    g = moments.group(concept)
    signed = moments.means_GLN[g] - moments.means_GLN[g + 1]
    error = np.sqrt(moments.difference_variances_CLN[g // 2]) if len(moments.difference_variances_CLN) else None
    if method == "standardised":
        pooled = np.sqrt((moments.variances_GLN[g] + moments.variances_GLN[g + 1]) / 2)
        # a neuron that never moves (a pruned one) tells nothing: its score is 0, not 0/0
        moves = pooled > 1e-12
        signed = np.divide(signed, pooled, out=np.zeros_like(signed), where=moves)
        # the pooled deviation is taken as known: its own error is of a smaller order
        error = None if error is None else np.divide(error, pooled, out=np.zeros_like(error), where=moves)
    scores = np.abs(signed)
    if moments.site == HEADS:
        scores = np.linalg.norm(signed.reshape(signed.shape[0], n_heads, -1), axis=2)
    heads = moments.site == HEADS
    return Saliency(
        concept=concept,
        method=method,
        scores_LN=scores,
        n_concept_tokens=int(moments.counts_G[g]),
        n_other_tokens=int(moments.counts_G[g + 1]),
        signed_LN=None if heads else signed,
        standard_error_LN=None if heads else error,
        n_independent=int(moments.n_sentences_C[g // 2]) if len(moments.n_sentences_C) else 0,
        provenance=provenance or {},
        site=moments.site.name,
    )


def from_sample(
    sample: TokenSample,
    concept: str,
    method: str,
    provenance: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Saliency:
    """Scores of one concept by one of `SAMPLE_METHODS` from sampled activations; `progress` follows the probe."""
    chosen = sample.concepts[concept]
    n_own = int(chosen.labels.sum())
    details = (provenance or {}) | {"sampled_tokens": len(chosen.rows), "sample_is_whole": chosen.is_whole}
    layers: dict[str, np.ndarray] = {}
    if method == "average_precision":
        signed = average_precision(sample, chosen)
        own = chosen.weights[chosen.labels].sum()
        details["base_rate"] = float(own / chosen.weights.sum())
    else:
        probes = probe.fit(sample, chosen, seed=seed, progress=progress)
        signed, layers = probes.weights_LN, probes.layers()
        details |= probes.provenance
    return Saliency(
        concept=concept,
        method=method,
        scores_LN=np.abs(signed),
        n_concept_tokens=n_own,
        n_other_tokens=len(chosen.rows) - n_own,
        signed_LN=signed,
        layers=layers,
        provenance=details,
        site=sample.site.name,
    )


def average_precision(sample: TokenSample, chosen: ConceptSample) -> np.ndarray:
    """Average precision of every unit as a ranking of tokens, [L, N], negative where low activation marks the concept.

    The larger of the two directions: ranking by the activation, or by its negation. Precision at a concept token is
    taken over all tokens at least as active, ties included; sampled tokens count with their weights.
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
