"""Were the neurons that carry a concept now close to it before the edit?

Axes: `K` chosen neuron.
"""

from dataclasses import dataclass

import numpy as np

from analysis.migration.measures import scaled
from analysis.neurons import NeuronSet
from analysis.polysemanticity import Priming, priming
from analysis.relearn import Snapshot
from analysis.saliency import rank_normalise

__all__ = ["PrimedNeurons", "primed"]

RESAMPLES = 200
"""Enough for two digits of a 95% interval; every resample ranks all neurons of the model anew."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PrimedNeurons:
    """Every unedited neuron's rank for a concept before the edit and now."""

    neurons: NeuronSet
    before_K: np.ndarray
    """Rank in the unedited model among all neurons, 0 to 1 = the most salient."""
    now_K: np.ndarray
    """Rank now."""
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

    Most neurons hardly change in a short training, so the correlation is high in any run: what the edit did to it is told
    by the control run beside it. The interval is over neurons, not over seeds.

    Raises:
        ConfigError: the concept was not tracked, the scale is unknown, or too few neurons are left to correlate.
    """
    base_LN, now_LN = scaled(base, concept, scale), scaled(now, concept, scale)
    free = ~edited.mask()
    return PrimedNeurons(
        neurons=NeuronSet.from_mask(free),
        before_K=rank_normalise(base_LN)[free],
        now_K=rank_normalise(now_LN)[free],
        priming=priming(base_LN[free], now_LN[free], n_resamples=n_resamples, seed=seed),
    )
