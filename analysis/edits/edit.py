"""Defines the interfaces of all edits: `Edit` describes one, `Materials` are its inputs, `Change` is its plan for a model.

An `Edit` says what to do and serialises to JSON. `methods.plan` turns it into a `Change` for one model, from `Materials`.
Only a `Ledger` writes a change into weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn

from analysis.checks import check_fields
from analysis.components.circuit import Shape
from analysis.components.neurons import NeuronSet
from analysis.concepts import Concept, Fact, Sentence
from analysis.models import LanguageModel
from analysis.saliency import Saliency
from analysis.saliency.moments import Moments, stream_moments
from analysis.scoring.batches import label_concepts
from analysis.training.slices import Head, Slice

__all__ = ["Change", "Edit", "Materials"]


E = TypeVar("E", bound="Edit")


@dataclass(frozen=True, kw_only=True)
class Edit(ABC):
    """A description of what to do to a model, independent of the model."""

    needs_facts: ClassVar[bool] = False
    """Whether `Materials` must hold the facts that the unedited model knows."""
    name: ClassVar[str] = ""
    """Name of the method, for a class that stands for a single method."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def method(self) -> str:
        """Name of the method: a key of `methods.METHODS`."""
        return self.name

    @abstractmethod
    def describe(self) -> str:
        """One phrase for captions."""

    def settled(self, device: torch.device) -> "Edit":
        """The edit with what depends on the device spelled out, so that it comes out the same when it is repeated."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The edit as plain JSON, which `methods.from_dict` reads."""
        return {"method": self.method, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Materials:
    """The inputs of an edit besides the model."""

    concept: Concept
    """The concept to remove."""
    forget: tuple[Fact, ...] = ()
    """Facts of the concept to remove: those that the unedited model knows."""
    maintain: tuple[tuple[Concept, tuple[Fact, ...]], ...] = ()
    """Facts to keep, with the concept whose templates ask for them; they may belong to the removed concept."""
    neutral: tuple[Sentence, ...] = ()
    """Ordinary text to keep."""
    moments: Moments | None = None
    """The concept's streamed moments, if already measured."""
    scores: Saliency | None = None
    """The saliency scores that the edit ranks by, if already measured."""

    def moments_on(self, model: LanguageModel) -> Moments:
        """Return the concept's moments on `model`: `moments` if given, otherwise measured now."""
        return self.moments or stream_moments(model, label_concepts(model, [self.concept]))


class Change(ABC, Generic[E]):
    """An edit planned for one model, ready for a ledger to write into its weights."""

    edit: E

    def marked(self, shape: Shape) -> tuple[NeuronSet, tuple[Head, ...]]:
        """Neurons and heads to mark on a map as edited; empty if the edit does not target single ones."""
        return NeuronSet([], shape.neurons), ()

    @property
    def injected(self) -> tuple[Fact, ...]:
        """Facts with the new answers that the edit trains in."""
        return ()

    @property
    def removed(self) -> tuple[Fact, ...] | None:
        """The facts that the edit removes; None means all that the model knows."""
        return None

    @property
    def held(self) -> bool:
        """Whether later training must leave the written weights unchanged."""
        return False

    @abstractmethod
    def extent(self) -> str:
        """How much of the model the edit touches: `461 of 46,080 neurons`."""

    @abstractmethod
    def slices(self, model: LanguageModel) -> Sequence[Slice]:
        """All the weights that `write` may change.

        Raises:
            EditError: the edit was planned for a model of another shape.
        """

    def biased(self, model: LanguageModel) -> Sequence[nn.Module]:
        """Modules whose output bias `write` may change or add."""
        return ()

    @abstractmethod
    def write(self, model: LanguageModel) -> None:
        """Change the weights. Only a ledger calls this: it copies the weights first and restores them if this raises."""
