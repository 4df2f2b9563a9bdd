"""The facts of a concept that a model knows, split into those to retrain on and those held out."""

from analysis.concepts import Concept
from analysis.errors import ConceptError
from analysis.models import LanguageModel
from analysis.relearning.snapshot import FactTable
from analysis.scoring import factual_recall

__all__ = ["choose_facts"]


def choose_facts(model: LanguageModel, concept: Concept, threshold: float) -> FactTable:
    """Split the facts with a mean P(answer) of at least `threshold` into those to retrain on and those held out.

    Raises:
        ConceptError: no known fact is left to retrain on, or none to hold out.
    """
    known, table = factual_recall.known_facts(model, concept, threshold=threshold)
    retrained = tuple(fact for fact in known if fact.split == "retrained")
    held_out = tuple(fact for fact in known if fact.split == "held_out")
    if not retrained or not held_out:
        empty = "retrain on" if not retrained else "hold out"
        raise ConceptError(
            f"“{model.name}” knows {len(known)} of the {len(table)} facts of “{concept.name}” (mean P(answer) of at "
            f"least {threshold:g}), which leaves none to {empty}. Lower the threshold, add facts, or set “split”."
        )
    return FactTable(retrained=retrained, held_out=held_out, n_set_aside=len(table) - len(known), threshold=threshold)
