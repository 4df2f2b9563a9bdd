"""Splits neutral sentences (ordinary language) into those mixed into training and those for measuring damage."""

from analysis.concepts.concept import Sentence
from analysis.errors import ConceptError

__all__ = ["split_neutral"]


def split_neutral(sentences: tuple[Sentence, ...]) -> tuple[tuple[Sentence, ...], tuple[Sentence, ...]]:
    """Returns (sentences for training, sentences for measurement); every fifth, from the first on, is for measurement.

    Raises:
        ConceptError: there are fewer than two sentences.
    """
    measured = sentences[::5]
    train = tuple(sentence for i, sentence in enumerate(sentences) if i % 5)
    if not train or not measured:
        raise ConceptError("There is too little neutral text: give at least two sentences.")
    return train, measured
