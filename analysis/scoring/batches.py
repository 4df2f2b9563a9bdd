"""Tokenises texts into right-padded batches, bucketed by length, and labels tokens by concept; kept on the device.

Right padding needs no attention mask in a causal model: no real token attends to a padded one.

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
"""Longest sentence in tokens; longer ones are cut, and the number of tokens cut is reported."""


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded token ids, with the label groups of each position."""

    tokens_BP: Int[Tensor, "B P"]
    weights_GBP: Float[Tensor, "G B P"]
    """1 where a position belongs to a group, 0 elsewhere (padding and skipped positions belong to none)."""
    sentences: tuple[int, ...] = ()
    """Index of each row's sentence in `LabelledText.sentences`."""
    clusters: tuple[int, ...] = ()
    """Cluster of each row (`LabelledText.clusters`); no cluster is split over batches."""


@dataclass(frozen=True)
class LabelledText:
    """The labelled sentences of one or more concepts, ready for streaming.

    Group `2c` holds the tokens labelled with concept `c`, group `2c + 1` the other tokens of its sentences. A sentence
    that several concepts share is run once.
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
    """The sentences that `TokenBatch.sentences` indexes; for one that concepts share, the first concept's."""
    clusters: tuple[int, ...] = ()
    """Cluster of each sentence: sentences that repeat a text or state the same fact share one, as not independent."""

    @property
    def n_sentences(self) -> int:
        return len(self.sentences)


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
    and also on the second token if the first word has several. `skip_first` therefore leaves the first word out of
    both groups; otherwise a few labelled sentence openings would decide the ranking.

    Raises:
        ConceptError: a concept has fewer than two labelled tokens left, or no other token to compare with.
    """
    limit = min(max_length, model.context_length)
    rows: dict[str, _Row] = {}
    counts = [0] * (2 * len(concepts))
    n_lost = 0
    for c, concept in enumerate(concepts):
        sentences = concept.labelled_sentences()
        if not any(sentence.spans for sentence in sentences):
            raise ConceptError(
                f"“{concept.name}” labels no words, so neurons cannot be ranked by it. Add spans to its sentences."
            )
        for n, sentence in enumerate(sentences):
            row = _row_for(rows, sentence, c, n, model)
            kept = TokenizedText(row.encoded.ids[:limit], row.encoded.offsets[:limit])
            first = _first_word(sentence.text, kept) if skip_first else 0
            labels, lost = _labels(kept, sentence, first)
            n_lost += lost
            counted = [i >= first and b > a for i, (a, b) in enumerate(kept.offsets)]
            counts[2 * c] += sum(labels)
            counts[2 * c + 1] += sum(counted) - sum(labels)
            # the weights of the padded batch come from these: True = concept, False = other, None = neither
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
    """One row to run: a sentence, with its token labels for each concept that contains it."""

    sentence: Sentence
    encoded: TokenizedText
    labels: dict[int, list[bool | None]]


def _row_for(rows: dict[str, _Row], sentence: Sentence, c: int, n: int, model: LanguageModel) -> _Row:
    """The row of a sentence's text, shared by concepts; a sentence repeated within a concept gets another row."""
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
            f"“{name}” has a single labelled token left, and one token is too few for a mean. Label more words, in "
            "several sentences."
        )
    if not n_other:
        raise ConceptError(f"“{name}” labels every word, so there is nothing to compare with.")


def _labels(text: TokenizedText, sentence: Sentence, first: int) -> tuple[list[bool], int]:
    """Returns whether each token from `first` on lies in a span, and the number of spans without a token."""
    labels, lost = [False] * len(text), 0
    for start, end in sentence.spans:
        positions = [p for p in span_tokens(text, start, end) if p >= first]
        lost += not positions
        for position in positions:
            labels[position] = True
    return labels, lost


def _first_word(text: str, encoded: TokenizedText) -> int:
    """Number of leading tokens up to the end of the first word, special tokens included.

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
    """Group texts of similar length: yields their indices, at most `tokens_per_batch` padded tokens in a batch.

    A cluster is never split, even if that makes a batch larger.
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
    filler = model.special_tokens.padding
    return to_device(torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows]), model.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to `device`; on CUDA asynchronously, from pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
