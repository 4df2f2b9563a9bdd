"""Scores answers token by token: log-probability, and whether the greedy prediction is right.

Prompts are those of `factual_recall.prepare_facts`, so that P(answer) means the same everywhere.

Axes: `B` batch, `P` position, `V` vocabulary, `A` answer token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from analysis.errors import ConceptError
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.scoring.batches import bucket, pad
from analysis.scoring.factual_recall import FactBatch

__all__ = ["ScoredAnswer", "per_fact", "score_answers", "score_next"]

_TOKENS_PER_BATCH = 1024


@dataclass(frozen=True, eq=False)
class ScoredAnswer:
    """The scores of one prompt's answer."""

    fact: int
    """Index into the probe's facts."""
    log_p_A: np.ndarray
    """Log-probability of each answer token given all tokens before it, nats, float64."""
    greedy_A: np.ndarray
    """Whether each answer token is the model's most probable one, bool."""

    @property
    def p(self) -> float:
        """Probability of the whole answer."""
        return float(np.exp(self.log_p_A.sum()))


def score_answers(model: LanguageModel, probe: FactBatch) -> list[ScoredAnswer]:
    """Score every prompt of the probe, in its order.

    Raises:
        ModelFileError: logits are not finite.
    """
    found: dict[int, ScoredAnswer] = {}
    with torch.inference_mode(), model.lock:
        for batch in probe.batches:
            # the logits at position p predict token p + 1
            logits = model.logits(batch.tokens_BP, keep=batch.keep)[:, :-1].float()
            targets = batch.tokens_BP[:, -batch.keep + 1 :]
            answer = batch.answer_BP[:, -batch.keep + 1 :].cpu()
            own, log_z = logits.gather(2, targets[..., None])[..., 0], logits.logsumexp(-1)
            log_p, greedy = (own - log_z).cpu().double(), (logits.argmax(-1) == targets).cpu()
            check_finite(model, log_p[answer])
            for b, row in enumerate(batch.rows):
                chosen = answer[b]
                found[row] = ScoredAnswer(probe.fact_of_row[row], log_p[b][chosen].numpy(), greedy[b][chosen].numpy())
    return [found[row] for row in range(len(probe.texts))]


def per_fact(probe: FactBatch, values: Sequence[float]) -> np.ndarray:
    """Average one value per prompt over each fact's prompts: float64, [number of facts]."""
    owners, n = np.array(probe.fact_of_row), len(probe.facts)
    return np.bincount(owners, weights=np.asarray(values, dtype=np.float64), minlength=n) / np.bincount(
        owners, minlength=n
    )


def score_next(
    model: LanguageModel, prompts: Sequence[Sequence[int]], candidates: Sequence[int]
) -> Float[np.ndarray, "X K"]:
    """Log-probability of each candidate as the token after each prompt, float64.

    Raises:
        ConceptError: a prompt is longer than the model's context.
        ModelFileError: logits are not finite.
    """
    longest = max(len(ids) for ids in prompts)
    if longest >= model.context_length:
        raise ConceptError(f"A prompt has {longest} tokens; the model's context is {model.context_length}. Shorten it.")
    log_p_XK = np.zeros((len(prompts), len(candidates)))
    with torch.inference_mode(), model.lock:
        for chosen in bucket([len(ids) for ids in prompts], _TOKENS_PER_BATCH):
            tokens = pad([prompts[i] for i in chosen], model)
            lengths = torch.tensor([len(prompts[i]) for i in chosen], device=model.device)
            keep = tokens.shape[1] - int(lengths.min()) + 1
            logits = model.logits(tokens, keep=keep)
            last_BV = logits[torch.arange(len(chosen), device=model.device), lengths - tokens.shape[1] + keep - 1]
            log_p_BK = last_BV.float().log_softmax(-1)[:, list(candidates)].cpu().double()
            check_finite(model, log_p_BK)
            log_p_XK[chosen] = log_p_BK.numpy()
    return log_p_XK
