"""Neutral sentences: ordinary language to train on beside a concept, and to measure damage on."""

from analysis.concepts.concept import Sentence
from analysis.errors import ConceptError

__all__ = ["split_neutral"]


def split_neutral(sentences: tuple[Sentence, ...]) -> tuple[tuple[Sentence, ...], tuple[Sentence, ...]]:
    """Neutral sentences to train on, and every fifth one to measure on.

    Raises:
        ConceptError: there are too few to have both.
    """
    measured = sentences[::5]
    train = tuple(sentence for i, sentence in enumerate(sentences) if i % 5)
    if not train or not measured:
        raise ConceptError("There is too little neutral text: give at least two sentences.")
    return train, measured
