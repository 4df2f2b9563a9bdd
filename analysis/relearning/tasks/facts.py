"""Task “facts”: trains on statements of facts, scores P(answer)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from analysis.concepts import Concept, Sentence
from analysis.errors import ConceptError
from analysis.models import LanguageModel
from analysis.relearning.config import RelearnConfig
from analysis.relearning.snapshot import FactTable
from analysis.relearning.tasks.base import Scores
from analysis.scoring import factual_recall
from analysis.scoring.batches import pad, to_device

__all__ = ["FactTask", "Row"]

Row = tuple[int, ...]
"""Token ids of a text."""


class FactTask:
    """Next-token training on statements of facts, the concept's sentences, neutral sentences and another text."""

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
            ConceptError: `sentence_share` asks for the concept's sentences, and it has none.
        """
        if config.counts["sentence"] and not concept.sentences:
            raise ConceptError(
                f"“{concept.name}” has no sentences of its own to train on. Set sentence_share to 0, or add sentences."
            )
        self.model, self.precision, self.facts = model, config.precision, facts
        self.sizes: Mapping[str, int] = {}
        self.parameters: Sequence[nn.Parameter] = ()
        texts: dict[str, tuple[Sequence[str], int | None]] = {
            "fact": ([text for fact in facts.retrained for text, _ in concept.statements(fact)], None),
            "sentence": ([one.text for one in concept.sentences], config.max_length),
            "neutral": ([one.text for one in neutral], config.max_length),
            "text": (text, config.max_length),
        }
        self.rows = {kind: _rows(model, *texts[kind]) for kind, count in config.counts.items() if count}
        self._probe = factual_recall.prepare_facts(model, concept, (*facts.retrained, *facts.held_out))

    def n_counted(self, rows: Sequence[Row]) -> int:
        """Number of tokens that are predicted: all but the first of each row."""
        return sum(len(row) - 1 for row in rows)

    def loss(self, rows: Sequence[Row]) -> Tensor:
        """Cross-entropy of the next token, summed over the rows, in nats."""
        tokens = pad(rows, self.model)
        lengths = to_device(torch.tensor([len(row) for row in rows]), self.model.device)
        with factual_recall.precision_context(self.model, self.precision):
            logits = self.model.logits(tokens)
        return factual_recall.token_losses(logits, tokens, lengths).sum()

    def measure(self) -> dict[str, Tensor]:
        """Start computing log P(answer) after every prompt."""
        return {"facts": factual_recall.fact_log_p(self.model, self._probe)}

    def scores(self, results: Mapping[str, np.ndarray]) -> Scores:
        """P(answer) of every fact."""
        p_F = factual_recall.mean_p(self._probe, results["facts"])
        n_retrained = len(self.facts.retrained)
        return Scores(p_retrained_F=p_F[:n_retrained], p_held_out_F=p_F[n_retrained:])


def _rows(model: LanguageModel, texts: Sequence[str], limit: int | None) -> list[Row]:
    """The texts' tokens, cut after `limit`; texts of a single token are dropped, since nothing in them is predicted."""
    rows = [model.encode(text).ids[:limit] for text in texts]
    return [row for row in rows if len(row) > 1]
