"""Task “tagging” (token classification): trains and scores finding the concept's words in its labelled sentences.

The protocol of Lo, Cohen & Barez 2024 (arXiv 2401.01814): the model is fine-tuned with a head for the tags before
anything is measured, and head and weights are trained together.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from analysis.concepts import Concept, Sentence
from analysis.models import LanguageModel
from analysis.relearning.config import RelearnConfig
from analysis.relearning.snapshot import FactTable
from analysis.relearning.tasks.base import Scores
from analysis.scoring import factual_recall, tagging
from analysis.scoring.tagging import TaggedRow

__all__ = ["MEASURED", "TaggingTask", "epoch_steps"]

MEASURED = 400
"""Most sentences that a snapshot scores, of those trained on and of those held out."""


class TaggingTask:
    """A tagging head, trained on labelled sentences and on neutral ones, which have no labelled words."""

    def __init__(self, model: LanguageModel, config: RelearnConfig, concept: Concept, neutral: Sequence[Sentence]):
        """Tokenise everything, and initialise the head.

        Raises:
            ConceptError: too few words are labelled to train on some and hold out others.
        """
        self.model, self.precision = model, config.precision
        self.head = tagging.TagHead(model, config.seed)
        self.parameters: Sequence[nn.Parameter] = list(self.head.parameters())
        self.facts = FactTable(retrained=(), held_out=(), n_set_aside=0, threshold=config.known_threshold)
        train, held_out = tagging.split_sentences(concept)
        outside = [replace(sentence, spans=()) for sentence in neutral]
        self.rows = {
            "tagged": tagging.tag_rows(model, train, config.max_length),
            "neutral": tagging.tag_rows(model, outside, config.max_length),
        }
        self._probes = {
            "trained": tagging.prepare(model, _sample(train, config.seed)),
            "held_out": tagging.prepare(model, _sample(held_out, config.seed)),
        }
        self.sizes = {
            "sentences trained on": len(self.rows["tagged"]),
            "sentences held out": len(held_out),
            "sentences trained on, scored": self._probes["trained"].n_sentences,
            "labelled words trained on, scored": self._probes["trained"].n_entities,
            "sentences held out, scored": self._probes["held_out"].n_sentences,
            "labelled words held out, scored": self._probes["held_out"].n_entities,
        }

    def n_counted(self, rows: Sequence[TaggedRow]) -> int:
        """Number of tokens that are tagged: all but special ones."""
        return sum(tag >= 0 for row in rows for tag in row.tags)

    def loss(self, rows: Sequence[TaggedRow]) -> Tensor:
        """Cross-entropy of the tags, summed over the rows, in nats."""
        tokens_BP, tags_BP = tagging.pad_tags(rows, self.model)
        with factual_recall.precision_context(self.model, self.precision):
            return tagging.tag_loss(self.model, self.head, tokens_BP, tags_BP)

    def measure(self) -> dict[str, Tensor]:
        """Start computing log P of every token's right tag and the predicted tag, on sentences trained on and held out."""
        results: dict[str, Tensor] = {}
        for part, probe in self._probes.items():
            results[f"{part} log p"], results[f"{part} guess"] = tagging.tag_log_p(self.model, self.head, probe)
        return results

    def scores(self, results: Mapping[str, np.ndarray]) -> Scores:
        """P(tags) of every labelled word; F1, precision and recall over whole words. Precision is absent if none is found."""
        trained, held_out = (
            tagging.scored(probe, results[f"{part} log p"], results[f"{part} guess"])
            for part, probe in self._probes.items()
        )
        metrics = {
            "f1": held_out.f1,
            "precision": held_out.precision,
            "recall": held_out.recall,
            "f1_trained": trained.f1,
        }
        return Scores(
            p_retrained_F=trained.p_E,
            p_held_out_F=held_out.p_E,
            metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        )


def epoch_steps(config: RelearnConfig, concept: Concept) -> int:
    """Number of training steps in which every labelled training sentence is drawn about once.

    Raises:
        ConceptError: too few words are labelled.
    """
    return math.ceil(len(tagging.split_sentences(concept)[0]) / config.counts["tagged"])


def _sample(sentences: Sequence[Sentence], seed: int) -> list[Sentence]:
    """At most `MEASURED` sentences, stratified by whether they have a labelled word; at least one has."""
    if len(sentences) <= MEASURED:
        return list(sentences)
    labelled, others = ([s for s in sentences if bool(s.spans) is kind] for kind in (True, False))
    count = max(round(MEASURED * len(labelled) / len(sentences)), 1)
    draw = random.Random(seed)
    return [*draw.sample(labelled, count), *draw.sample(others, MEASURED - count)]
