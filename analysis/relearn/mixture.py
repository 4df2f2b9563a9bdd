"""What a batch is made of: statements of facts, the concept's sentences, neutral sentences, and another text.

Axes: `B` batch, `P` position.
"""

import hashlib
import json
from collections.abc import Sequence

from analysis.concepts import Concept, Sentence
from analysis.errors import ConceptError
from analysis.models import LanguageModel
from analysis.relearn.config import RelearnConfig
from analysis.relearn.record import FactTable
from analysis.training import Deck

__all__ = ["Mixture", "Row"]

Row = tuple[int, ...]
"""Token ids of a text."""

_WHAT = {
    "fact": "statement of a fact",
    "sentence": "sentence of the concept",
    "neutral": "neutral sentence",
    "text": "line of the text",
}
_SEEDS = {"fact": 0, "neutral": 1, "sentence": 2, "text": 3}
"""Each deck has a seed of its own, so that one more kind leaves the draws of the others as they were."""


class Mixture:
    """A seeded deck of each kind of text that the configuration has a share for."""

    def __init__(
        self,
        model: LanguageModel,
        config: RelearnConfig,
        concept: Concept,
        facts: FactTable,
        neutral: Sequence[Sentence],
        text: Sequence[str] = (),
    ):
        """Tokenise everything.

        Raises:
            ConceptError: a kind that has a share has no text of two tokens or more.
        """
        if config.counts["sentence"] and not concept.sentences:
            raise ConceptError(
                f"“{concept.name}” has no sentences of its own to train on. Set sentence_share to 0, or add sentences."
            )
        texts: dict[str, tuple[Sequence[str], int | None]] = {
            "fact": ([text for fact in facts.retrained for text, _ in concept.statements(fact)], None),
            "sentence": ([one.text for one in concept.sentences], config.max_length),
            "neutral": ([one.text for one in neutral], config.max_length),
            "text": (text, config.max_length),
        }
        self.counts = {kind: count for kind, count in config.counts.items() if count}
        rows = {kind: _rows(model, *texts[kind]) for kind in self.counts}
        self.decks: dict[str, Deck[Row]] = {
            kind: Deck(_WHAT[kind], rows[kind], config.seed + _SEEDS[kind]) for kind in self.counts
        }
        self.digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
        """Of all the texts: what a resumed training must have in common."""
        self.longest = max(len(row) for some in rows.values() for row in some)
        """Tokens of the longest row."""

    def draw(self) -> list[Row]:
        """The rows of the next batch."""
        return [row for kind, count in self.counts.items() for row in self.decks[kind].draw(count)]


def _rows(model: LanguageModel, texts: Sequence[str], limit: int | None) -> list[Row]:
    """The texts' tokens, without texts of a single token: nothing can be predicted there."""
    rows = [model.encode(text).ids[:limit] for text in texts]
    return [row for row in rows if len(row) > 1]
