"""What every edit has in common: a pure description, and the change it comes to on a given model.

An `Edit` says what to do and serialises to JSON. `plan` (in `methods`) works it out for one model from `Materials` and
gives a `Change`; only a `Ledger` writes a change into weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn

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
    """What to do to a model. Knows nothing of the model it will be done to."""

    needs_facts: ClassVar[bool] = False
    """Whether `Materials` must hold the facts that the unedited model knows."""
    name: ClassVar[str] = ""
    """Of the method, where the class is one method alone."""

    @property
    def method(self) -> str:
        """Name of the method: a key of `methods.METHODS`."""
        return self.name

    @abstractmethod
    def describe(self) -> str:
        """One phrase for captions."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `methods.from_dict` is the way back."""
        return {"method": self.method, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What edits are made from, besides the model."""

    concept: Concept
    """What is removed."""
    forget: tuple[Fact, ...] = ()
    """Facts of the concept to remove: those that the unedited model knows."""
    maintain: tuple[tuple[Concept, tuple[Fact, ...]], ...] = ()
    """Facts to keep, with the concept whose templates ask for them; may be other facts of the same concept."""
    neutral: tuple[Sentence, ...] = ()
    """Ordinary text to keep."""
    moments: Moments | None = None
    """The concept's streamed moments, where they were measured before."""
    scores: Saliency | None = None
    """The saliency that an edit ranks by, where it was measured before."""

    def moments_on(self, model: LanguageModel) -> Moments:
        """The concept's moments on `model`: those given, or streamed now."""
        return self.moments or stream_moments(model, label_concepts(model, [self.concept]))


class Change(ABC, Generic[E]):
    """An edit worked out for one model, ready to be written into its weights by a ledger."""

    edit: E

    def marked(self, shape: Shape) -> tuple[NeuronSet, tuple[Head, ...]]:
        """Neurons and heads to point out on a map as edited; none where the edit is not about single ones."""
        return NeuronSet([], shape.neurons), ()

    @property
    def injected(self) -> tuple[Fact, ...]:
        """Facts with the new answers that it teaches."""
        return ()

    @property
    def removed(self) -> tuple[Fact, ...] | None:
        """The facts that it removes, where it is about some; None is all that the model knows."""
        return None

    @property
    def held(self) -> bool:
        """Whether later training must keep what was written as it is."""
        return False

    @abstractmethod
    def extent(self) -> str:
        """How much of the model it touches: `461 of 46,080 neurons`."""

    @abstractmethod
    def slices(self, model: LanguageModel) -> Sequence[Slice]:
        """All the weights that `write` may change.

        Raises:
            EditError: it was worked out for a model of another shape.
        """

    def biased(self, model: LanguageModel) -> Sequence[nn.Module]:
        """Modules whose output bias `write` may change or add."""
        return ()

    @abstractmethod
    def write(self, model: LanguageModel) -> None:
        """Change the weights. Only a ledger calls this: it keeps what was there, and puts it back if this raises."""
