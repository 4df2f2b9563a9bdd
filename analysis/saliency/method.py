"""Declares a saliency method: its name, texts, unit, sites, and the function that computes its scores.

There are three families, by input. A `MomentMethod` uses means and variances of activations, from running sums of one
pass. A `SampleMethod` uses single activations of a bounded sample of tokens, kept in the same pass. A `CausalMethod` uses
gradients, or further runs of the model. The declarations are in `analysis.saliency.methods`, one module each.

Axes: `L` layer, `N` unit in a layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from analysis.components.sites import SITES, Site
from analysis.saliency.effects import Effects

__all__ = ["CausalMethod", "Groups", "Method", "MomentMethod", "SampleMethod", "SampleScores"]

Array = TypeVar("Array", np.ndarray, Tensor)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to score every unit. Scores are magnitudes: larger = the unit carries the concept more strongly."""

    name: str
    """The name as users type it and files store it; also the name of its module."""
    title: str
    """The name in running text."""
    says: str
    """One or two sentences: what a high score means."""
    unit: str
    """Unit of the scores, followed after a colon by their definition."""
    axis: str = ""
    """The unit in a few words, for an axis; if empty, the part of `unit` before the colon."""
    source: str = ""
    """Paper."""
    sites: tuple[Site, ...] = tuple(SITES.values())
    """Sites where it is defined. Methods that score single numbers exclude `HEADS`, since a head writes a vector."""
    takes: str = ""
    """Duration without a GPU, for methods that take minutes."""
    needs_facts: bool = False
    """Whether the concept must have facts; otherwise labelled words are enough."""
    needs_units: bool = False
    """Whether units must be named, because the model runs once for each; such a method cannot rank all units."""
    place: int = 1000
    """Position in lists, ascending; methods with equal positions are sorted by name."""

    @property
    def short_unit(self) -> str:
        """The unit in a few words."""
        return self.axis or self.unit.split(":")[0]


@dataclass(frozen=True)
class Groups(Generic[Array]):
    """Means and variances of activations over a concept's tokens and over the others, all as NumPy arrays or tensors."""

    own_mean: Array
    other_mean: Array
    own_variance: Array
    """Population variance."""
    other_variance: Array

    @property
    def difference(self) -> Array:
        """Mean over the concept's tokens minus mean over the others."""
        return self.own_mean - self.other_mean


@dataclass(frozen=True, kw_only=True)
class MomentMethod(Method):
    """A method that needs only means and variances. It also runs on the model's device at every snapshot."""

    signed: Callable[[Groups[Any]], Any]
    """Computes the signed score, with the groups' shape and array type."""
    error: Callable[[Any, Groups[Any]], Any]
    """Computes the standard error of the score from that of the difference of means."""


@dataclass(frozen=True, kw_only=True)
class SampleScores:
    """Scores that a method computed from a sample of tokens."""

    signed_LN: np.ndarray
    """The signed score."""
    layers: dict[str, np.ndarray] = field(default_factory=dict)
    """Further values for each layer, [L] each."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Settings, and values that hold for all layers."""


@dataclass(frozen=True, kw_only=True)
class SampleMethod(Method):
    """A method that needs single activations of a bounded sample of tokens."""

    score: Callable[..., SampleScores]
    """Called with the `TokenSample`, the `ConceptSample`, and by keyword `seed` and `progress` (share done, or None)."""


@dataclass(frozen=True, kw_only=True)
class CausalMethod(Method):
    """A method that needs gradients or further runs of the model."""

    effects: Callable[..., tuple[Effects, dict[str, Any]]]
    """Called with the model, the concept and the facts to ask for, and by keyword `site`, `seed`, `max_examples`,
    `progress` (share done, or None), the caller's options, and `units` if `needs_units`. Returns the effects and entries
    for the provenance."""
    examples: int
    """Default number of prompts to average over."""
