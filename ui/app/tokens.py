"""Escapes text for Markdown, and highlights the labelled words of a concept's sentences."""

from collections.abc import Sequence

import streamlit as st

from analysis.concepts import Sentence

__all__ = ["escaped", "highlighted", "sentences"]

_SPECIAL = "\\`*_{}[]()<>#+-.!|~$:"


def highlighted(sentence: Sentence) -> str:
    """Markdown of a sentence with its labelled words highlighted."""
    pieces, done = [], 0
    for start, end in sentence.spans:
        pieces.append(escaped(sentence.text[done:start]))
        pieces.append(f":blue-background[**{escaped(sentence.text[start:end])}**]")
        done = end
    return "".join([*pieces, escaped(sentence.text[done:])])


def sentences(shown: Sequence[Sentence], *, limit: int = 8) -> None:
    """Draw the first sentences of a concept, and how many more there are."""
    for sentence in shown[:limit]:
        st.markdown(highlighted(sentence))
    if len(shown) > limit:
        st.caption(f"… and {len(shown) - limit} more sentences")


def escaped(text: str) -> str:
    """Markdown that shows exactly this text."""
    return "".join("\\" + char if char in _SPECIAL else char for char in text)
