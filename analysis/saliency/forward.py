"""Computes saliency from a streamed pass: from its sums (`MomentMethod`) or its token sample (`SampleMethod`).

Axes: `L` layer, `N` unit in a layer, `C` concept.
"""

from typing import Any

import numpy as np

from analysis.components.sites import HEADS
from analysis.errors import ConfigError
from analysis.progress import ShareDone
from analysis.saliency.method import Groups, SampleMethod
from analysis.saliency.methods import METHODS, SAMPLE_METHODS, moment_method
from analysis.saliency.moments import Moments, TokenSample
from analysis.saliency.result import Saliency

__all__ = ["from_moments", "from_sample"]


def from_moments(
    moments: Moments, concept: str, method: str, provenance: dict[str, Any] | None = None, *, n_heads: int = 1
) -> Saliency:
    """Score one concept by one of `MOMENT_METHODS` from already streamed moments.

    For attention heads a score is the length of each head's vector, for probeless that of q(concept) - q(other), without
    sign and standard error.

    Raises:
        ConfigError: the method needs more than moments.
    """
    declared = moment_method(method)
    g = moments.group(concept)
    means_GLN, variances_GLN = moments.means_GLN, moments.variances_GLN
    groups = Groups(means_GLN[g], means_GLN[g + 1], variances_GLN[g], variances_GLN[g + 1])
    signed, error = declared.signed(groups), None
    if len(moments.difference_variances_CLN):
        error = declared.error(np.sqrt(moments.difference_variances_CLN[g // 2]), groups)
    heads = moments.site == HEADS
    scores = np.linalg.norm(signed.reshape(signed.shape[0], n_heads, -1), axis=2) if heads else np.abs(signed)
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
    progress: ShareDone | None = None,
) -> Saliency:
    """Score one concept by one of `SAMPLE_METHODS` from sampled activations; the probe reports to `progress`.

    Raises:
        ConfigError: the method is not one of them.
    """
    declared = METHODS.get(method)
    if not isinstance(declared, SampleMethod):
        raise ConfigError(f"{method} is not computed from a sample of tokens. Use {' or '.join(SAMPLE_METHODS)}.")
    chosen = sample.concepts[concept]
    n_own = int(chosen.labels.sum())
    found = declared.score(sample, chosen, seed=seed, progress=progress)
    details = {"sampled_tokens": len(chosen.rows), "sample_is_whole": chosen.is_whole} | found.provenance
    return Saliency(
        concept=concept,
        method=method,
        scores_LN=np.abs(found.signed_LN),
        n_concept_tokens=n_own,
        n_other_tokens=len(chosen.rows) - n_own,
        signed_LN=found.signed_LN,
        layers=found.layers,
        provenance=(provenance or {}) | details,
        site=sample.site.name,
    )
