"""Text as batches of tokens: bucketed by length, right-padded, prepared once and kept on the device.

Right padding needs no attention mask in a causal model: no real token sees a padded one.

Axes: `B` batch, `P` position, `G` label group.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.concepts import Concept, Sentence
from analysis.errors import ConceptError
from analysis.models import LanguageModel, TokenizedText

__all__ = ["MAX_LENGTH", "LabelledText", "TokenBatch", "bucket", "label_concepts", "pad", "span_tokens", "to_device"]

MAX_LENGTH = 256
"""Tokens of a sentence that are used; longer ones are cut, and the number cut is reported."""


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded token ids, and what each position counts for."""

    tokens_BP: Int[Tensor, "B P"]
    weights_GBP: Float[Tensor, "G B P"]
    """1 where a position belongs to a group, 0 elsewhere (padding and skipped positions belong to none)."""
    sentences: tuple[int, ...] = ()
    """Which sentence each row is, as an index into all the sentences."""
    clusters: tuple[int, ...] = ()
    """Which cluster each row belongs to (`LabelledText.clusters`); a cluster is whole in one batch."""


@dataclass(frozen=True)
class LabelledText:
    """The labelled sentences of one or more concepts, ready for streaming.

    Group `2c` holds the tokens labelled with concept `c`, group `2c + 1` the other tokens of its sentences. A sentence
    of several concepts is run once.
    """

    concepts: tuple[str, ...]
    batches: tuple[TokenBatch, ...]
    n_tokens_G: tuple[int, ...]
    """Tokens in each group."""
    n_cut: int
    """Tokens lost to the length limit."""
    n_spans_lost: int
    """Labelled spans with no token left: cut off, or in the skipped first word."""
    skips_first: bool
    """Whether the first word of every sentence is left out (attention sink)."""
    sentences: tuple[Sentence, ...] = ()
    """What each row of `TokenBatch.sentences` is; of two concepts' sentence, the first one's."""
    clusters: tuple[int, ...] = ()
    """Of every sentence: equal where sentences are not independent, as repeated ones and statements of one fact."""

    @property
    def n_sentences(self) -> int:
        return len(self.sentences)

    @property
    def n_real_tokens(self) -> int:
        return sum(self.n_tokens_G)


def span_tokens(text: TokenizedText, start: int, end: int) -> list[int]:
    """Positions of the tokens that overlap the characters [start, end)."""
    return [i for i, (a, b) in enumerate(text.offsets) if a < end and b > start and b > a]


def label_concepts(
    model: LanguageModel,
    concepts: Sequence[Concept],
    *,
    max_length: int = MAX_LENGTH,
    tokens_per_batch: int = 1024,
    skip_first: bool = True,
) -> LabelledText:
    """Tokenise the sentences of all concepts and map their spans to tokens through the tokenizer's offsets.

    The first token of a text is an attention sink: a few neurons take values hundreds of times their usual ones there,
    and where the first word has several tokens, on the next one too. The first word is therefore left out of both
    groups unless `skip_first` is off; otherwise a handful of labelled sentence openings decide the ranking.

    Raises:
        ConceptError: a concept has no labelled token left, or no other token to compare with.
    """
    limit = min(max_length, model.context_length)
    rows: dict[str, _Row] = {}
    counts = [0] * (2 * len(concepts))
    n_lost = 0
    for c, concept in enumerate(concepts):
        sentences = concept.labelled_sentences()
        if not any(sentence.spans for sentence in sentences):
            raise ConceptError(f"“{concept.name}” labels no words, so no neuron can be ranked by it. Add spans.")
        for n, sentence in enumerate(sentences):
            row = _row_for(rows, sentence, c, n, model)
            kept = TokenizedText(row.encoded.ids[:limit], row.encoded.offsets[:limit])
            first = _first_word(sentence.text, kept) if skip_first else 0
            labels, lost = _labels(kept, sentence, first)
            n_lost += lost
            counted = [i >= first and b > a for i, (a, b) in enumerate(kept.offsets)]
            counts[2 * c] += sum(labels)
            counts[2 * c + 1] += sum(counted) - sum(labels)
            # position weights are built from these when the batch is padded: 1 concept, 0 other, None neither
            row.labels[c] = [label if use else None for label, use in zip(labels, counted)]
        _check_counts(concept.name, counts[2 * c], counts[2 * c + 1], limit, skip_first)
    kept_rows = list(rows.values())
    keys: dict[str, int] = {}
    clusters = [keys.setdefault(row.sentence.about or row.sentence.text, len(keys)) for row in kept_rows]
    batches = []
    for chosen in bucket([min(len(row.encoded), limit) for row in kept_rows], tokens_per_batch, clusters):
        tokens = pad([kept_rows[i].encoded.ids[:limit] for i in chosen], model)
        weights = torch.zeros(2 * len(concepts), *tokens.shape)
        for b, i in enumerate(chosen):
            for c, labels in kept_rows[i].labels.items():
                for p, label in enumerate(labels):
                    if label is not None:
                        weights[2 * c + (0 if label else 1), b, p] = 1.0
        batches.append(TokenBatch(tokens, weights.to(model.device), tuple(chosen), tuple(clusters[i] for i in chosen)))
    return LabelledText(
        tuple(concept.name for concept in concepts),
        tuple(batches),
        tuple(counts),
        sum(max(len(row.encoded) - limit, 0) for row in kept_rows),
        n_lost,
        skip_first,
        tuple(row.sentence for row in kept_rows),
        tuple(clusters),
    )


@dataclass
class _Row:
    """A sentence that is run once, with its labels for every concept that has it."""

    sentence: Sentence
    encoded: TokenizedText
    labels: dict[int, list[bool | None]]


def _row_for(rows: dict[str, _Row], sentence: Sentence, c: int, n: int, model: LanguageModel) -> _Row:
    """The row of a sentence's text: one for all concepts, but a concept that repeats a sentence counts it again."""
    key = sentence.text
    if key in rows and c in rows[key].labels:
        key = f"{c}\x1f{n}\x1f{key}"
    if key not in rows:
        rows[key] = _Row(sentence, model.encode(sentence.text), {})
    return rows[key]


def _check_counts(name: str, n_concept: int, n_other: int, limit: int, skip_first: bool) -> None:
    if not n_concept:
        raise ConceptError(
            f"None of the labelled words of “{name}” is left after cutting sentences to {limit} tokens"
            f"{' and leaving out first words' if skip_first else ''}. Shorten the sentences."
        )
    if n_concept == 1:
        raise ConceptError(
            f"“{name}” has a single labelled token left, and a mean of one token is no mean. Label more words, in "
            "several sentences."
        )
    if not n_other:
        raise ConceptError(f"“{name}” labels every word, so there is nothing to compare with.")


def _labels(text: TokenizedText, sentence: Sentence, first: int) -> tuple[list[bool], int]:
    """Which tokens from position `first` on carry a span, and how many spans have no token left."""
    labels, lost = [False] * len(text), 0
    for start, end in sentence.spans:
        positions = [p for p in span_tokens(text, start, end) if p >= first]
        lost += not positions
        for position in positions:
            labels[position] = True
    return labels, lost


def _first_word(text: str, encoded: TokenizedText) -> int:
    """Number of leading tokens that belong to the first word: special tokens, and all up to the first white space.

    In a script without spaces only the first token counts as the first word.
    """
    begin = len(text) - len(text.lstrip())
    end = next((i for i in range(begin, len(text)) if text[i].isspace()), None)
    if end is None:
        return next(
            (i + 1 for i, (start, stop) in enumerate(encoded.offsets) if stop > max(start, begin)), len(encoded)
        )
    return next((i for i, (start, stop) in enumerate(encoded.offsets) if stop > start and stop > end), len(encoded))


def bucket(lengths: Sequence[int], tokens_per_batch: int, clusters: Sequence[int] | None = None) -> Iterator[list[int]]:
    """Indices of texts in batches of similar length, each of at most `tokens_per_batch` padded tokens.

    Texts of one cluster stay together, even where that makes a batch larger.
    """
    together: dict[int, list[int]] = {}
    for i in range(len(lengths)):
        together.setdefault(i if clusters is None else clusters[i], []).append(i)
    batch: list[int] = []
    for members in sorted(together.values(), key=lambda group: max(lengths[i] for i in group)):
        if batch and (len(batch) + len(members)) * max(lengths[i] for i in members) > tokens_per_batch:
            yield batch
            batch = []
        batch.extend(members)
    if batch:
        yield batch


def pad(rows: Sequence[Sequence[int]], model: LanguageModel) -> Int[Tensor, "B P"]:
    """Right-pad token ids into one tensor on the model's device."""
    longest = max(len(row) for row in rows)
    filler = model.tokenizer.pad_token_id
    return to_device(torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows]), model.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor from the CPU on `device`, without waiting for a CUDA device to be done with what it does."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
