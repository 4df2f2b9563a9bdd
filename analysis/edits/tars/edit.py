"""Plans a TARS edit, and computes and writes its replacements on the model as earlier edits left it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from analysis.components.circuit import Shape
from analysis.components.neurons import NeuronSet
from analysis.concepts import Fact
from analysis.edits.edit import Change, Materials
from analysis.edits.tars.presets import tars_for_fact
from analysis.edits.tars.replacement import Ranking, Replacement, rank, replacements
from analysis.edits.tars.targeting import Tars, targeting
from analysis.errors import ConceptError, EditError
from analysis.models import LanguageModel
from analysis.training.slices import Head, Slice, check_shape

__all__ = ["Reversal", "plan_tars"]


@dataclass(kw_only=True)
class Reversal(Change[Tars]):
    """A TARS edit with its trigger and prompts filled in. `slices` computes its targeting vector, just before writing."""

    edit: Tars
    """The edit as described."""
    config: Tars
    """The edit with trigger, prompts and contrast filled in; this is what is carried out."""
    shape: Shape
    """Shape of the model it was planned for."""
    facts: tuple[Fact, ...]
    """Facts of the concept whose answer is the trigger."""
    ranking: Ranking | None = None
    """All candidate vectors, best first; None before `slices` is called."""
    _pieces: list[Replacement] = field(default_factory=list)

    @property
    def removed(self) -> tuple[Fact, ...] | None:
        return self.facts or None

    def extent(self) -> str:
        """`16 of 138,240 vectors`."""
        count = sum(len(piece.indices) for piece, _ in self._pieces)
        total = len(self.config.matrices) * self.shape.n_layers * self.shape.n_neurons
        return f"{count:,} of {total:,} {'/'.join(self.config.matrices)} vectors"

    def marked(self, shape: Shape) -> tuple[NeuronSet, tuple[Head, ...]]:
        if self.ranking is None:
            return NeuronSet([], shape.neurons), ()
        count = self.ranking.chosen(self.config)
        layers, neurons = self.ranking.layers_E[:count], self.ranking.neurons_E[:count]
        return NeuronSet(
            sorted({int(l) * shape.n_neurons + int(n) for l, n in zip(layers, neurons)}), shape.neurons
        ), ()

    def slices(self, model: LanguageModel) -> Sequence[Slice]:
        check_shape(model, self.shape)
        with model.lock, torch.no_grad():
            target = targeting(model, self.config)
            self.ranking = rank(model, self.config, target)
            self._pieces = replacements(model, self.config, target, self.ranking)
        return [piece for piece, _ in self._pieces]

    def write(self, model: LanguageModel) -> None:
        if not self._pieces:
            raise EditError("TARS found nothing to replace.")
        with model.lock, torch.no_grad():
            for piece, values in self._pieces:
                piece.write(values)


def plan_tars(edit: Tars, model: LanguageModel, materials: Materials) -> Reversal:
    """Fill in trigger and prompts from the concept's fact, if the edit names one.

    Raises:
        ConceptError: the concept has no such fact.
    """
    concept, config = materials.concept, edit
    if edit.fact:
        by_name = dict(zip(concept.fact_names(), concept.facts))
        if edit.fact not in by_name:
            raise ConceptError(
                f"“{concept.name}” has no fact “{edit.fact}”. There are {', '.join(list(by_name)[:5]) or 'none'} …"
            )
        built = tars_for_fact(concept, by_name[edit.fact], ranking=edit.ranking)
        config = replace(
            edit,
            trigger=edit.trigger or built.trigger,
            prompts=edit.prompts or built.prompts,
            contrast=edit.contrast or built.contrast,
        )
    answer = config.trigger.strip()
    return Reversal(
        edit=edit,
        config=config,
        shape=model.component_shape,
        facts=tuple(fact for fact in concept.facts if fact.answer == answer),
    )
