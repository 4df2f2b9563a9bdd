"""Token classification: a linear head on the final residual stream tags the concept's words in a text.

Every token gets one of three tags (CoNLL's BIO): outside the concept, the beginning of one of its words or phrases, or
inside one. This is named entity recognition with one type of entity, the task of Lo et al. 2024 (arXiv 2401.01814). A
causal model tags a token from the tokens up to it.

Axes: `B` batch, `P` position, `D` d_model, `K` tag, `E` entity, `T` token of all batches, padding included.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from analysis.concepts import HELD_OUT_SHARE, Concept, Sentence
from analysis.errors import ConceptError
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.scoring import factual_recall
from analysis.scoring.batches import MAX_LENGTH, bucket, pad, span_tokens, to_device

__all__ = [
    "TAGS",
    "TagHead",
    "TaggedRow",
    "TaggingBatch",
    "TaggingScore",
    "find_entities",
    "pad_tags",
    "prepare",
    "score",
    "scored",
    "split_sentences",
    "tag_log_p",
    "tag_loss",
    "tag_rows",
]

TAGS = ("O", "B", "I")
"""Outside, beginning, inside."""

_UNCOUNTED = -100
_TOKENS_PER_BATCH = 1024


@dataclass(frozen=True)
class TaggedRow:
    """A tokenised sentence with its tags."""

    ids: tuple[int, ...]
    tags: tuple[int, ...]
    """Index into `TAGS` for every token; -100 for special tokens, which are not tagged."""


@dataclass(frozen=True)
class TaggingBatch:
    """Tagged sentences, tokenised once as batches of (tokens, tags), both [B, P]."""

    batches: tuple[tuple[Tensor, Tensor], ...]
    tags: tuple[np.ndarray, ...]
    """A copy of the batches' tags on the CPU."""
    n_sentences: int
    n_entities: int


@dataclass(frozen=True)
class TaggingScore:
    """Tagging scores: probabilities, precision, recall and F1 over entities, loss over tokens."""

    p_E: np.ndarray
    """Probability of each entity's right tags, the product over its tokens; float64 [E]."""
    precision: float
    """Share of predicted entities whose first and last token are right; NaN if none is predicted."""
    recall: float
    f1: float
    """Harmonic mean of precision and recall over whole entities, as CoNLL-2003 counts; 0 if none is right."""
    loss: float
    """Mean cross-entropy of the tags, nats per token."""


class TagHead(nn.Linear):
    """Maps the final residual stream to tag logits: [B, P, D] -> [B, P, K]."""

    def __init__(self, model: LanguageModel, seed: int):
        super().__init__(model.d_model, len(TAGS))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.weight.copy_(0.02 * torch.randn(self.weight.shape, generator=generator))
            self.bias.zero_()
        self.to(model.device)


def split_sentences(concept: Concept) -> tuple[tuple[Sentence, ...], tuple[Sentence, ...]]:
    """Returns (sentences to train on, held-out sentences); about a third is held out.

    The split is a hash of the text, or of the fact it states (`Sentence.about`), so that repeated sentences are
    never in both parts.

    Raises:
        ConceptError: a part would have no labelled word.
    """
    parts: tuple[list[Sentence], list[Sentence]] = ([], [])
    for sentence in concept.labelled_sentences():
        digest = hashlib.sha256((sentence.about or sentence.text).encode()).digest()
        parts[int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT_SHARE].append(sentence)
    for what, part in zip(("train on", "hold out"), parts):
        if not any(sentence.spans for sentence in part):
            raise ConceptError(
                f"“{concept.name}” labels too few words: none is left to {what}. Add sentences with labelled words."
            )
    return tuple(parts[0]), tuple(parts[1])


def tag_rows(model: LanguageModel, sentences: Sequence[Sentence], limit: int = MAX_LENGTH) -> list[TaggedRow]:
    """Tokenise sentences, cut to `limit` tokens, and tag each token; sentences without a token are left out."""
    rows, limit = [], min(limit, model.context_length)
    for sentence in sentences:
        encoded = model.encode(sentence.text)
        tags = [TAGS.index("O") if end > start else _UNCOUNTED for start, end in encoded.offsets]
        for start, end in sentence.spans:
            for n, position in enumerate(span_tokens(encoded, start, end)):
                tags[position] = TAGS.index("I" if n else "B")
        if any(tag != _UNCOUNTED for tag in tags[:limit]):
            rows.append(TaggedRow(encoded.ids[:limit], tuple(tags[:limit])))
    return rows


def pad_tags(rows: Sequence[TaggedRow], model: LanguageModel) -> tuple[Int[Tensor, "B P"], Int[Tensor, "B P"]]:
    """Right-padded tokens and tags on the model's device; padding has tag -100."""
    tokens = pad([row.ids for row in rows], model)
    longest = tokens.shape[1]
    tags = [[*row.tags, *[_UNCOUNTED] * (longest - len(row.tags))] for row in rows]
    return tokens, to_device(torch.tensor(tags), model.device)


def tag_loss(
    model: LanguageModel, head: TagHead, tokens_BP: Int[Tensor, "B P"], tags_BP: Int[Tensor, "B P"]
) -> Float[Tensor, ""]:
    """Cross-entropy of the tags, summed over the tagged tokens, in nats."""
    logits_BPK = head(model.residual(tokens_BP)).float()
    return F.cross_entropy(logits_BPK.flatten(0, 1), tags_BP.flatten(), ignore_index=_UNCOUNTED, reduction="sum")


def prepare(model: LanguageModel, sentences: Sequence[Sentence]) -> TaggingBatch:
    """Tokenise and pad sentences once.

    Raises:
        ConceptError: no labelled word is left.
    """
    rows = tag_rows(model, sentences)
    n_entities = sum(row.tags.count(TAGS.index("B")) for row in rows)
    if not n_entities:
        raise ConceptError(
            f"None of the labelled words is within the first {MAX_LENGTH} tokens. Shorten the sentences."
        )
    chosen = bucket([len(row.ids) for row in rows], _TOKENS_PER_BATCH)
    batches = tuple(pad_tags([rows[i] for i in batch], model) for batch in chosen)
    return TaggingBatch(batches, tuple(tags_BP.cpu().numpy() for _, tags_BP in batches), len(rows), n_entities)


def score(model: LanguageModel, head: TagHead, probe: TaggingBatch, *, precision: str = "float32") -> TaggingScore:
    """Tag the prepared sentences and compare the tags with the true ones, entity by entity.

    Raises:
        ModelFileError: a score is not finite.
    """
    with torch.inference_mode(), model.lock, factual_recall.precision_context(model, precision):
        log_p_T, guess_T = tag_log_p(model, head, probe)
    check_finite(model, log_p_T)
    return scored(probe, log_p_T.cpu().numpy(), guess_T.cpu().numpy())


def tag_log_p(
    model: LanguageModel, head: TagHead, probe: TaggingBatch
) -> tuple[Float[Tensor, " T"], Int[Tensor, " T"]]:
    """Returns log P of each token's right tag and its most probable tag, batch after batch, on the model's device."""
    log_p, guesses = [], []
    for tokens_BP, tags_BP in probe.batches:
        log_p_BPK = head(model.residual(tokens_BP)).float().log_softmax(-1)
        log_p.append(log_p_BPK.gather(2, tags_BP.clamp(min=0)[..., None]).flatten())
        guesses.append(log_p_BPK.argmax(-1).flatten())
    return torch.cat(log_p), torch.cat(guesses)


def scored(probe: TaggingBatch, log_p_T: np.ndarray, guess_T: np.ndarray) -> TaggingScore:
    """Score the results of `tag_log_p` against the true tags, entity by entity."""
    p_E: list[float] = []
    n_right = n_found = n_tokens = start = 0
    total = 0.0
    for tags_BP in probe.tags:
        here = slice(start, start + tags_BP.size)
        start = here.stop
        counted_BP = tags_BP != _UNCOUNTED
        right_BP = np.where(counted_BP, log_p_T[here].reshape(tags_BP.shape).astype(np.float64), 0.0)
        guess_BP = np.where(counted_BP, guess_T[here].reshape(tags_BP.shape), _UNCOUNTED)
        total -= right_BP.sum()
        n_tokens += int(counted_BP.sum())
        for truth, guess, right_P in zip(tags_BP.tolist(), guess_BP.tolist(), right_BP):
            entities, found = {*find_entities(truth)}, {*find_entities(guess)}
            p_E += [float(np.exp(right_P[first:stop].sum())) for first, stop in sorted(entities)]
            n_right, n_found = n_right + len(entities & found), n_found + len(found)
    return TaggingScore(
        p_E=np.array(p_E),
        precision=n_right / n_found if n_found else float("nan"),
        recall=n_right / len(p_E),
        f1=2 * n_right / (n_found + len(p_E)),
        loss=float(total) / n_tokens,
    )


def find_entities(tags: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yields [first, stop) of each entity; an I tag after O starts an entity, as in CoNLL's scorer."""
    beginning, inside = TAGS.index("B"), TAGS.index("I")
    first: int | None = None
    for position, tag in enumerate([*tags, TAGS.index("O")]):
        if first is not None and tag != inside:
            yield first, position
            first = None
        if tag == beginning or (tag == inside and first is None):
            first = position
