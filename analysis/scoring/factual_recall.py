"""Computes P(answer) of facts, the loss on neutral text, and greedy continuations.

P(answer) is the probability of the whole answer given the prompt (the product over its tokens), averaged over a fact's
templates. Texts are tokenised once (`prepare_*`) and scored as often as needed.

Axes: `B` batch, `P` position, `V` vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from analysis.concepts import Concept, Fact, Sentence
from analysis.errors import ConceptError
from analysis.models import LanguageModel, TokenizedText
from analysis.models.finite import check_finite
from analysis.scoring.batches import bucket, pad, span_tokens

__all__ = [
    "KNOWN_THRESHOLD",
    "FactBatch",
    "NeutralBatch",
    "fact_log_p",
    "generate",
    "known_facts",
    "mean_p",
    "neutral_loss",
    "neutral_total",
    "prepare_facts",
    "prepare_neutral",
    "score_facts",
]

KNOWN_THRESHOLD = 0.3
"""Facts with a lower mean P(answer) in the unedited model count as unknown and are left out."""

_TOKENS_PER_BATCH = 1024
_NO_TARGET = -100


@dataclass(frozen=True)
class _FactTokens:
    tokens_BP: Tensor
    answer_BP: Tensor
    """True where a token belongs to the answer."""
    rows: tuple[int, ...]
    """Index of each row in `FactBatch.texts`."""
    rows_B: Tensor
    """`rows` as a tensor on the model's device."""
    keep: int
    """Number of last positions that cover every answer token and the position before the first."""


@dataclass(frozen=True)
class FactBatch:
    """Facts, tokenised once as padded batches of prompt + answer."""

    facts: tuple[Fact, ...]
    fact_of_row: tuple[int, ...]
    """Index of each text's fact in `facts`."""
    texts: tuple[str, ...]
    batches: tuple[_FactTokens, ...]


@dataclass(frozen=True)
class NeutralBatch:
    """Neutral sentences, tokenised once as batches of (tokens [B, P], number of real tokens in each row [B])."""

    batches: tuple[tuple[Tensor, Tensor], ...]
    n_sentences: int
    n_predicted: int
    """Tokens with a loss: all but the first of each sentence."""


def prepare_facts(
    model: LanguageModel, concept: Concept, facts: Sequence[Fact] | None = None, *, paraphrased: bool = False
) -> FactBatch:
    """Tokenise every prompt + answer of `facts` (default: all of the concept's).

    Raises:
        ConceptError: there are no facts, an answer has no token of its own, a fact has no template (or paraphrase), or
            a text is longer than the model's context.
    """
    facts = concept.facts if facts is None else facts
    if not facts:
        raise ConceptError(f"“{concept.name}” has no facts, so there is no P(answer) to measure. Add facts to it.")
    rows: list[tuple[tuple[int, ...], list[int]]] = []
    owners, texts = [], []
    for f, fact in enumerate(facts):
        for text, start in concept.statements(fact, paraphrased=paraphrased):
            encoded = model.encode(text)
            positions = [p for p in span_tokens(encoded, start, len(text)) if p > 0]
            if not positions:
                raise ConceptError(f"The answer of “{text}” has no token after the prompt.")
            if len(encoded) > model.context_length:
                raise ConceptError(f"“{text[:60]}…” is longer than the model's {model.context_length} tokens.")
            rows.append((encoded.ids, positions))
            owners.append(f)
            texts.append(text)
    if {*range(len(facts))} - {*owners}:
        raise ConceptError(f"“{concept.name}” has facts without a {'paraphrase' if paraphrased else 'template'}.")
    batches = []
    for chosen in bucket([len(ids) for ids, _ in rows], _TOKENS_PER_BATCH):
        tokens = pad([rows[i][0] for i in chosen], model)
        answer = torch.zeros(tokens.shape, dtype=torch.bool)
        for b, i in enumerate(chosen):
            answer[b, rows[i][1]] = True
        first = min(rows[i][1][0] for i in chosen)
        on_device = (answer.to(model.device), tuple(chosen), torch.tensor(chosen, device=model.device))
        batches.append(_FactTokens(tokens, *on_device, tokens.shape[1] - first + 1))
    return FactBatch(tuple(facts), tuple(owners), tuple(texts), tuple(batches))


def score_facts(
    model: LanguageModel, probe: FactBatch, *, first_token_only: bool = False, precision: str = "float32"
) -> np.ndarray:
    """P(answer) of each fact, averaged over its prompts: float64 of shape [number of facts].

    Raises:
        ModelFileError: logits are not finite.
    """
    with torch.inference_mode(), model.lock, precision_context(model, precision):
        log_p_R = fact_log_p(model, probe, first_token_only=first_token_only)
    check_finite(model, log_p_R)
    return mean_p(probe, log_p_R.cpu().numpy())


def fact_log_p(model: LanguageModel, probe: FactBatch, *, first_token_only: bool = False) -> Tensor:
    """log P(answer) for each of `probe.texts`, in nats, float32 on the model's device; differentiable."""
    log_p_R = torch.zeros(len(probe.texts), device=model.device)
    for batch in probe.batches:
        # the logits at position p predict token p + 1
        logits = model.logits(batch.tokens_BP, keep=batch.keep)[:, :-1].float()
        targets = batch.tokens_BP[:, -batch.keep + 1 :]
        answer = batch.answer_BP[:, -batch.keep + 1 :]
        if first_token_only:
            answer = answer & (answer.cumsum(1) == 1)
        log_p = -F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        log_p_R[batch.rows_B] = (log_p * answer).sum(1)
    return log_p_R


def mean_p(probe: FactBatch, log_p_R: np.ndarray) -> np.ndarray:
    """P(answer) of each fact, from the result of `fact_log_p`: the mean over its prompts, float64."""
    p = np.exp(log_p_R.astype(np.float64))
    owners = np.array(probe.fact_of_row)
    return np.bincount(owners, weights=p, minlength=len(probe.facts)) / np.bincount(owners, minlength=len(probe.facts))


def known_facts(
    model: LanguageModel, concept: Concept, *, threshold: float = KNOWN_THRESHOLD
) -> tuple[list[Fact], pd.DataFrame]:
    """Returns the facts with P(answer) of at least `threshold`, and a table of all (subject, answer, split, p, known).

    Raises:
        ConceptError: as in `prepare_facts`.
        ModelFileError: logits are not finite.
    """
    p = score_facts(model, prepare_facts(model, concept))
    table = pd.DataFrame(
        {
            "subject": [fact.subject for fact in concept.facts],
            "answer": [fact.answer for fact in concept.facts],
            "split": [fact.split for fact in concept.facts],
            "p": p,
            "known": p >= threshold,
        }
    )
    return [fact for fact, known in zip(concept.facts, table["known"]) if known], table


def prepare_neutral(model: LanguageModel, sentences: Sequence[Sentence]) -> NeutralBatch:
    """Tokenise neutral sentences; those of fewer than two tokens are left out.

    Raises:
        ConceptError: no sentence is left.
    """
    rows = [
        ids
        for ids in (model.encode(sentence.text).ids[: model.context_length] for sentence in sentences)
        if len(ids) > 1
    ]
    if not rows:
        raise ConceptError("There is no neutral text to measure the loss on.")
    batches = []
    for chosen in bucket([len(ids) for ids in rows], _TOKENS_PER_BATCH // 2):
        lengths = torch.tensor([len(rows[i]) for i in chosen], device=model.device)
        batches.append((pad([rows[i] for i in chosen], model), lengths))
    return NeutralBatch(tuple(batches), len(rows), sum(len(ids) - 1 for ids in rows))


def neutral_loss(model: LanguageModel, probe: NeutralBatch, *, precision: str = "float32") -> float:
    """Mean cross-entropy per predicted token, in nats.

    Raises:
        ModelFileError: logits are not finite.
    """
    with torch.inference_mode(), model.lock, precision_context(model, precision):
        total = float(neutral_total(model, probe))
    check_finite(model, total)
    return total / probe.n_predicted


def neutral_total(model: LanguageModel, probe: NeutralBatch) -> Tensor:
    """Sum of the cross-entropies of all predicted tokens, in nats, on the model's device."""
    precise = torch.float32 if model.device.type == "mps" else torch.float64
    total = torch.zeros((), dtype=precise, device=model.device)
    for tokens, lengths in probe.batches:
        total += token_losses(model.logits(tokens), tokens, lengths).sum(dtype=precise)
    return total


def token_losses(logits_BPV: Tensor, tokens_BP: Tensor, lengths_B: Tensor) -> Tensor:
    """Cross-entropy of every real token after the first, 0 at padded ones; shape [B, P - 1], in nats."""
    positions = torch.arange(1, tokens_BP.shape[1] + 1, device=tokens_BP.device)
    targets_BP = F.pad(tokens_BP[:, 1:], (0, 1)).masked_fill(positions[None] >= lengths_B[:, None], _NO_TARGET)
    # one row per token: logits stay contiguous (no copy), and CUDA's kernel for this layout is deterministic
    losses = F.cross_entropy(
        logits_BPV.float().flatten(0, 1), targets_BP.flatten(), reduction="none", ignore_index=_NO_TARGET
    )
    return losses.view_as(targets_BP)[:, :-1]


def generate(model: LanguageModel, prompt: str, *, max_new_tokens: int = 12) -> tuple[str, list[tuple[str, float]]]:
    """Greedy continuation of `prompt`; returns its text, and each new token with its probability.

    Raises:
        ConceptError: the prompt is empty or fills the model's context.
        ModelFileError: logits are not finite.
    """
    encoded: TokenizedText = model.encode(prompt)
    if not 0 < len(encoded) < model.context_length:
        raise ConceptError(f"The prompt has {len(encoded)} tokens; the model's context is {model.context_length}.")
    tokens = torch.tensor([encoded.ids], device=model.device)
    produced: list[tuple[str, float]] = []
    with torch.inference_mode(), model.lock:
        for _ in range(min(max_new_tokens, model.context_length - len(encoded))):
            logits_V = model.logits(tokens, keep=1)[0, -1].float()
            check_finite(model, logits_V)
            probabilities = logits_V.softmax(-1)
            best = int(probabilities.argmax())
            if best in model.special_tokens.ends:
                break
            produced.append((model.decode([best]), float(probabilities[best])))
            tokens = torch.cat([tokens, torch.tensor([[best]], device=model.device)], dim=1)
    return "".join(text for text, _ in produced), produced


@contextmanager
def precision_context(model: LanguageModel, precision: str) -> Iterator[None]:
    """bfloat16 autocast with “bf16”, no change with “float32”."""
    if precision not in ("bf16", "float32"):
        raise ValueError(f"precision is {precision!r}, not bf16 or float32")
    with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield
