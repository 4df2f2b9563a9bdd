"""Measures one snapshot: saliency on each scale, layer mass, centre of mass.

Axes: `L` layer, `N` neuron in a layer.
"""

import numpy as np

from analysis.errors import ConfigError
from analysis.relearning import Snapshot
from analysis.saliency.carriers import CARRIER_SHARE, carrier_count, order, rank_normalise

__all__ = [
    "SCALES",
    "centre_of_carriers",
    "centre_of_mass",
    "layer_mass",
    "scaled",
]

SCALES = {
    "standardised": "d' (difference in standard deviations). Layers compare fairly; neurons that hardly ever fire can "
    "look strong.",
    "raw": "Probeless, in activation units. The paper's measure; late layers dominate because their activations are "
    "larger.",
    "rank": "Probeless as a rank from 0 to 1. Layers compare fairly; how far apart two neurons are is lost.",
}
"""Scale -> what it shows and what it hides."""


def scaled(snapshot: Snapshot, concept: str, scale: str) -> np.ndarray:
    """The saliency of a tracked concept on one of `SCALES`, [L, N].

    Raises:
        ConfigError: the scale is unknown, or the concept was not tracked.
    """
    if concept not in snapshot.saliency:
        raise ConfigError(f"“{concept}” was not tracked in this run. Tracked: {', '.join(snapshot.saliency)}.")
    if scale == "raw":
        return snapshot.saliency[concept]["probeless"]
    if scale == "standardised":
        return snapshot.saliency[concept]["standardised"]
    if scale == "rank":
        return rank_normalise(snapshot.saliency[concept]["probeless"]).astype(np.float32)
    raise ConfigError(f"“{scale}” is not a scale. Use {', '.join(SCALES)}.")


def layer_mass(scores_LN: np.ndarray) -> np.ndarray:
    """Sum of the scores of each layer, [L], in the scores' unit."""
    return scores_LN.sum(axis=1, dtype=np.float64)


def centre_of_mass(scores_LN: np.ndarray) -> float:
    """Mean layer, weighted by layer mass: 0 is the first layer. NaN if all scores are 0."""
    mass_L = layer_mass(scores_LN)
    total = mass_L.sum()
    return float((mass_L * np.arange(mass_L.size)).sum() / total) if total > 0 else float("nan")


def centre_of_carriers(scores_LN: np.ndarray, share: float = CARRIER_SHARE) -> float:
    """Unweighted mean layer of the top `share` of neurons; 0 is the first layer."""
    top = order(scores_LN)[: carrier_count(scores_LN.size, share)]
    return float((top // scores_LN.shape[1]).mean())
