"""Text with its concept words highlighted: a sentence as coloured pieces, safe for any content."""

from collections.abc import Sequence

import streamlit as st

from analysis.concepts import Sentence

__all__ = ["escaped", "highlighted", "sentences"]

_SPECIAL = "\\`*_{}[]()<>#+-.!|~$:"


def highlighted(sentence: Sentence) -> str:
    """Markdown of a sentence in which the labelled words stand on a coloured ground."""
    pieces, done = [], 0
    for start, end in sentence.spans:
        pieces.append(escaped(sentence.text[done:start]))
        pieces.append(f":blue-background[**{escaped(sentence.text[start:end])}**]")
        done = end
    return "".join([*pieces, escaped(sentence.text[done:])])


def sentences(shown: Sequence[Sentence], *, limit: int = 8) -> None:
    """The first sentences of a concept, and how many more there are."""
    for sentence in shown[:limit]:
        st.markdown(highlighted(sentence))
    if len(shown) > limit:
        st.caption(f"… and {len(shown) - limit} more sentences")


def escaped(text: str) -> str:
    """Text as Markdown that shows exactly this text."""
    return "".join("\\" + char if char in _SPECIAL else char for char in text)
