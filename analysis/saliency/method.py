"""What a saliency method declares: its name and words, the unit of its scores, what it is computed from, and where.

There are three families, by what a method is computed from. `MomentMethod`: means and variances of activations, running
sums of one pass. `SampleMethod`: single activations of a bounded sample of tokens, kept in the same pass. `CausalMethod`:
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
    """A way to score every unit. The score is the size of what the method measures: larger = carries the concept more."""

    name: str
    """As it is typed and stored; also the name of its module."""
    title: str
    """As it is written in a text."""
    says: str
    """One or two sentences: what a high score says."""
    unit: str
    """Unit of the scores, then, after a colon, how they are defined."""
    axis: str = ""
    """The unit in a few words, for an axis; the part of `unit` before the colon where it is empty."""
    source: str = ""
    """Paper."""
    sites: tuple[Site, ...] = tuple(SITES.values())
    """Where it is defined. A head writes a vector: methods that score single numbers leave `HEADS` out."""
    takes: str = ""
    """How long it takes without a GPU, for methods that take minutes."""
    needs_facts: bool = False
    """Whether the concept must have facts; otherwise labelled words are enough."""
    needs_units: bool = False
    """Whether the units must be named, because the model is run once for each: nothing can be ranked by it."""
    place: int = 1000
    """Place in lists, ascending; methods of one place are sorted by name."""

    @property
    def short_unit(self) -> str:
        """The unit in a few words."""
        return self.axis or self.unit.split(":")[0]


@dataclass(frozen=True)
class Groups(Generic[Array]):
    """Means and variances of activations over a concept's tokens and over the others: NumPy arrays or tensors, alike."""

    own_mean: Array
    other_mean: Array
    own_variance: Array
    """Population variance."""
    other_variance: Array

    @property
    def difference(self) -> Array:
        """Mean of the concept's tokens - mean of the others."""
        return self.own_mean - self.other_mean


@dataclass(frozen=True, kw_only=True)
class MomentMethod(Method):
    """A method that needs nothing but means and variances. It runs on the model's device at every snapshot, too."""

    signed: Callable[[Groups[Any]], Any]
    """The score with its sign, of the groups' shape and kind of array."""
    error: Callable[[Any, Groups[Any]], Any]
    """The standard error of the score, from that of the difference of means."""


@dataclass(frozen=True, kw_only=True)
class SampleScores:
    """What a method found in a sample of tokens."""

    signed_LN: np.ndarray
    """The score with its sign."""
    layers: dict[str, np.ndarray] = field(default_factory=dict)
    """Further figures for each layer, [L] each."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Settings and figures of the whole."""


@dataclass(frozen=True, kw_only=True)
class SampleMethod(Method):
    """A method that needs single activations, of a bounded sample of tokens."""

    score: Callable[..., SampleScores]
    """Called with the `TokenSample`, the `ConceptSample`, and by keyword `seed` and `progress` (share done, or None)."""


@dataclass(frozen=True, kw_only=True)
class CausalMethod(Method):
    """A method that needs gradients or further runs of the model."""

    effects: Callable[..., tuple[Effects, dict[str, Any]]]
    """Called with the model, the concept and the facts to ask for, and by keyword `site`, `seed`, `max_examples`,
    `progress` (share done, or None), the caller's options, and `units` if `needs_units`. Returns the effects and what
    belongs into the provenance."""
    examples: int
    """How many prompts it is averaged over, unless the caller says otherwise."""
