"""Probeless: the difference of mean activations on a concept's tokens and on others.

With q(z) the mean activation over tokens labelled z, r = sum over z' != z of |q(z) - q(z')|; with two labels,
r = |q(concept) - q(other)| (Antverg & Belinkov 2022, as used by Lo, Cohen & Barez 2024, section 3). It needs no training,
but scales with a unit's activation.
"""

from analysis.saliency.method import MomentMethod

__all__ = ["METHOD"]

METHOD = MomentMethod(
    name="probeless",
    title="probeless",
    says="How far apart the mean activations on the concept's words and on others are. Follows the scale of a neuron's "
    "activation.",
    unit="activation units: |mean over concept tokens - mean over other tokens|",
    source="Antverg & Belinkov 2022; Lo, Cohen & Barez 2024",
    signed=lambda groups: groups.difference,
    error=lambda error, groups: error,
    place=10,
)
