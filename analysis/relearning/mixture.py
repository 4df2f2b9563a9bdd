"""Draws training batches: texts of every kind that the configuration has a share for, from seeded decks."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Generic, TypeVar

from analysis.relearning.config import RelearnConfig
from analysis.training.schedule import Deck

__all__ = ["Mixture"]

T = TypeVar("T")

_WHAT = {
    "fact": "statement of a fact",
    "tagged": "labelled sentence",
    "sentence": "sentence of the concept",
    "neutral": "neutral sentence",
    "text": "line of the text",
}
_SEEDS = {"fact": 0, "tagged": 0, "neutral": 1, "sentence": 2, "text": 3}
"""Added to the run's seed: each deck has its own, so that adding a kind does not change the draws of the others."""


class Mixture(Generic[T]):
    """One seeded deck for each kind of row; two mixtures of the same rows and seed draw the same batches."""

    def __init__(self, config: RelearnConfig, rows: Mapping[str, Sequence[T]]):
        """Shuffle the rows.

        Args:
            config: Holds the number of rows of each kind in a batch, and the seed.
            rows: The rows of each kind.

        Raises:
            ConceptError: a kind has no rows.
        """
        self.counts = {kind: count for kind, count in config.counts.items() if count}
        used = {kind: list(rows[kind]) for kind in self.counts}
        self.decks: dict[str, Deck[T]] = {
            kind: Deck(_WHAT[kind], used[kind], config.seed + _SEEDS[kind]) for kind in self.counts
        }
        self.digest = hashlib.sha256(json.dumps(used, default=astuple).encode()).hexdigest()
        """SHA-256 of all rows; a resumed training must have the same."""

    def draw(self) -> list[T]:
        """The rows of the next batch."""
        return [row for kind, count in self.counts.items() for row in self.decks[kind].draw(count)]
