"""Draws the texts of each term of a gradient edit and computes its loss and gradient on a model.

The reference values of the model before training (log-probabilities, activations) are computed once, before the first
step, and stored for each text, so no second model is kept.

Axes: `A` token that counts, `B` text of a batch, `D` d_model, `V` vocabulary.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.components.sites import RESIDUAL
from analysis.edits.gradient.edit import GradientEdit, Term
from analysis.edits.gradient.examples import Batch, Row
from analysis.edits.gradient.losses import text_log_p
from analysis.edits.gradient.objectives.rmu import Rmu
from analysis.models import LanguageModel
from analysis.scoring import factual_recall
from analysis.scoring.batches import bucket
from analysis.training.schedule import Deck

__all__ = ["Losses"]

_TOKENS_PER_BATCH = 512
_NAMES = {
    "forget": "statement of a fact to remove",
    "old": "statement of a fact to update",
    "update": "statement with a new answer",
    "maintain": "statement of a fact to maintain",
    "text": "ordinary sentence",
    "retain": "text to keep",
}


class Losses:
    """An edit's weighted terms on one model."""

    def __init__(self, model: LanguageModel, edit: GradientEdit, rows: Mapping[str, Sequence[Row]]):
        """Shuffle the texts, and compute the reference values on the model as it is now.

        Args:
            model: The model before training.
            edit: The objective and its settings.
            rows: Texts by kind; a term without texts is left out.
        """
        self.model, self.edit = model, edit
        self.terms = tuple(term for term in edit.terms() if term.weight > 0 and term.name in rows)
        self.decks = {
            term.name: Deck(_NAMES[term.name], rows[term.name], edit.seed + i) for i, term in enumerate(self.terms)
        }
        self._layer = edit.layer_in(model.n_layers) if isinstance(edit, Rmu) else 0
        self._references: dict[tuple[str, Row], Tensor] = {}
        self._target_D = torch.zeros(0)
        with torch.no_grad():
            for term in self.terms:
                self._refer(term, rows[term.name])

    def backward(self) -> dict[str, float]:
        """Draw a batch for every term, accumulate the gradients of the weighted losses, and return each unweighted loss."""
        losses: dict[str, float] = {}
        for term in self.terms:
            batch = Batch.of(self.decks[term.name].draw(self.edit.batch_size), self.model)
            loss = self.loss(term, batch)
            (term.weight * loss).backward()
            losses[term.name] = float(loss.detach())
        return losses

    def total(self, losses: Mapping[str, float]) -> float:
        """The weighted sum of the terms' losses."""
        return sum(term.weight * losses[term.name] for term in self.terms)

    def loss(self, term: Term, batch: Batch) -> Float[Tensor, ""]:
        """The loss of one term on one batch."""
        if term.kind in ("steer", "match"):
            hidden_AD = self._hidden(batch)
            return term.loss(hidden_AD, self._target_D if term.kind == "steer" else self._stored(term, batch))
        with factual_recall.precision_context(self.model, self.edit.precision):
            logits_AV, targets_A, texts_A = batch.predict(self.model)
        if term.kind == "tokens":
            return term.loss(logits_AV, targets_A)
        if term.kind == "kl":
            return term.loss(logits_AV, self._stored(term, batch))
        log_p_B = text_log_p(logits_AV, targets_A, texts_A, len(batch.rows))
        return term.loss(log_p_B, self._stored(term, batch) if term.kind == "ratio" else batch.counted_BP.sum(1))

    def _refer(self, term: Term, rows: Sequence[Row]) -> None:
        """Store the reference values of `term`, from the model before training, for each of its texts."""
        if term.kind in ("tokens", "length"):
            return
        norms = []
        for chosen in bucket([len(row.ids) for row in rows], _TOKENS_PER_BATCH):
            batch = Batch.of([rows[i] for i in chosen], self.model)
            sizes = [len(row.counted) for row in batch.rows]
            if term.kind == "steer":
                norms.append(self._hidden(batch).norm(dim=-1))
                continue
            if term.kind == "match":
                parts = self._hidden(batch).split(sizes)
            else:
                with factual_recall.precision_context(self.model, self.edit.precision):
                    logits_AV, targets_A, texts_A = batch.predict(self.model)
                if term.kind == "kl":
                    parts = logits_AV.log_softmax(-1).split(sizes)
                else:
                    parts = text_log_p(logits_AV, targets_A, texts_A, len(sizes)).split(1)
            for row, part in zip(batch.rows, parts):
                self._references[term.name, row] = part.clone()
        if isinstance(self.edit, Rmu) and norms:
            self._target_D = self._direction() * (self.edit.steering * torch.cat(norms).mean())

    def _stored(self, term: Term, batch: Batch) -> Tensor:
        return torch.cat([self._references[term.name, row] for row in batch.rows])

    def _direction(self) -> Float[Tensor, " D"]:
        """RMU's u: a unit vector of entries drawn uniformly from [0, 1)."""
        draw = torch.Generator().manual_seed(self.edit.seed)
        u_D = torch.rand(self.model.d_model, generator=draw)
        return (u_D / u_D.norm()).to(self.model.device)

    def _hidden(self, batch: Batch) -> Float[Tensor, "A D"]:
        """The residual stream after the steered layer at the tokens that count, float32."""
        found: list[Tensor] = []
        hook = (RESIDUAL.hook(self._layer), lambda activation, hook: found.append(activation))
        with self.model.hooks([hook]), factual_recall.precision_context(self.model, self.edit.precision):
            self.model.residual(batch.tokens_BP)
        return found[0][batch.counted_BP].float()
