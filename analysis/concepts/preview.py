"""Describes what was understood of a concept's file before anything is kept: its kind, numbers, first rows, what was left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.concepts.concept import Concept

__all__ = ["Preview"]

_SHOWN = 160
"""Most characters of a row's text."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A concept that was read, and how it was understood."""

    kind: str
    """Name of the format, such as “RWKU”."""
    concept: Concept
    n_records: int | None = None
    """Records of the file, those left out included; None where every row is kept, or an error."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why records were left out -> how many."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """What a label could choose (relations, levels) -> how many records have it."""

    def counts(self) -> str:
        """“40 facts (12 held out), 0 sentences (0 with a labelled word)”."""
        concept = self.concept
        held_out = sum(fact.split == "held_out" for fact in concept.facts)
        labelled = sum(bool(sentence.spans) for sentence in concept.sentences)
        return (
            f"{len(concept.facts):,} facts ({held_out:,} held out), {len(concept.sentences):,} sentences "
            f"({labelled:,} with a labelled word)"
        )

    def rows(self, count: int = 5) -> list[dict[str, Any]]:
        """The first facts, or else the first sentences, as they will be used.

        Columns of facts: prompt, answer, and where a fact has them: counter answer, choices, aliases, paraphrases (their
        numbers). Of sentences: text, labelled (the words).
        """
        concept = self.concept
        if not concept.facts:
            return [
                {
                    "text": _short(sentence.text),
                    "labelled": ", ".join(sentence.text[start:end] for start, end in sentence.spans),
                }
                for sentence in concept.sentences[:count]
            ]
        rows = []
        for fact in concept.facts[:count]:
            text, start = next(concept.statements(fact))
            extras = {
                "counter answer": fact.counter_answer,
                "choices": len(fact.choices),
                "aliases": len(fact.aliases),
                "paraphrases": len(concept.paraphrases_of(fact)),
            }
            row: dict[str, Any] = {"prompt": _short(text[:start].rstrip()), "answer": _short(fact.answer)}
            rows.append(row | {name: value for name, value in extras.items() if value})
        return rows


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
