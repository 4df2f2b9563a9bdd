"""Records the activations of a few chosen neurons at every token of a text.

In contrast, `saliency.moments` keeps sums over tokens for all neurons. Top words, contexts and error bars are computed
from these activations.

Axes: `T` token of the text (real tokens only, in the order of the sentences), `K` chosen neuron (ascending flat index),
`B` batch, `P` position.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from analysis.components.neurons import Neuron, NeuronSet
from analysis.components.sites import MLP, RESIDUAL, Site
from analysis.concepts import Sentence
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel, TokenizedText
from analysis.models.finite import not_finite
from analysis.models.memory import MemoryEstimate, free_bytes
from analysis.scoring.batches import MAX_LENGTH, _first_word, _labels, bucket, pad

__all__ = ["TokenActivations", "Word", "column_of", "split_words", "token_activations"]


@dataclass(frozen=True)
class Word:
    """One occurrence of a word in a text."""

    text: str
    start: int
    end: int
    """Characters [start, end) of the text."""
    sentence: int = 0
    """Index of the sentence that contains it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenActivations:
    """Activations of chosen neurons at every token of a text, with each token's id, sentence, label and word."""

    model: str
    site: Site
    neurons: NeuronSet
    sentences: tuple[Sentence, ...]
    values_TK: np.ndarray
    """Activations, float32, [T, K]."""
    ids_T: np.ndarray
    """Token ids, int32."""
    sentence_T: np.ndarray
    """Index of each token's sentence, ascending, int32."""
    offsets_T2: np.ndarray
    """Each token's characters [start, end) in its sentence, int32, [T, 2]; may include a leading space."""
    labels_T: np.ndarray
    """Whether a token overlaps a labelled span, bool."""
    word_T: np.ndarray
    """Index in `words` of the word that the token starts in; -1 for white space."""
    words: tuple[Word, ...]
    """Every word of the text, in order; a word whose tokens were all cut or skipped has no token."""
    skips_first: bool
    """Whether the first word of every sentence is left out (attention sink)."""
    n_cut: int
    """Tokens lost to the length limit."""
    n_spans_lost: int
    """Labelled spans with no token left: cut off, or in the skipped first word."""

    @property
    def names(self) -> tuple[str, ...]:
        """Label of each column, such as `L5.N123`."""
        return tuple(self.site.label(neuron.layer, neuron.index) for neuron in self.neurons)

    def column(self, neuron: Neuron) -> int:
        """The column of a neuron in `values_TK`.

        Raises:
            ConfigError: the neuron's activations were not recorded.
        """
        return column_of(neuron, self.neurons, self.site)

    def rows(self, sentence: int) -> slice:
        """The rows of one sentence's tokens."""
        start, stop = np.searchsorted(self.sentence_T, [sentence, sentence + 1])
        return slice(int(start), int(stop))


def column_of(neuron: Neuron, neurons: NeuronSet, site: Site) -> int:
    """Index of a neuron among `neurons`.

    Raises:
        ConfigError: it is not one of them.
    """
    columns = np.flatnonzero(neurons.flat == neuron.layer * neurons.shape[1] + neuron.index)
    if not columns.size or not 0 <= neuron.index < neurons.shape[1]:
        name = site.label(neuron.layer, neuron.index)
        raise ConfigError(f"{name} was not recorded. Run token_activations again with {name} among the {site.plural}.")
    return int(columns[0])


@dataclass(frozen=True)
class _Row:
    """A tokenised sentence: the ids that the model reads, and the positions that are kept."""

    ids: tuple[int, ...]
    kept: list[int]
    offsets: list[tuple[int, int]]
    labels: list[bool]
    words: list[Word]
    word_of: list[int]
    """Index into `words`, -1 for white space."""
    n_cut: int
    n_lost: int


def token_activations(
    model: LanguageModel,
    sentences: Sequence[Sentence],
    neurons: NeuronSet,
    *,
    site: Site = MLP,
    skip_first: bool = False,
    max_length: int = MAX_LENGTH,
    tokens_per_batch: int = 1024,
) -> TokenActivations:
    """Run the model once over `sentences`, without its head, and keep the activations of `neurons` at every token.

    Special tokens and padding are not kept. The result takes [tokens, neurons] in float32; free memory is
    checked before the pass.

    Args:
        model: Read only.
        sentences: The text; spans become token labels.
        neurons: MLP neurons, or residual dimensions (then `neurons.shape` is (layers, d_model)).
        site: `MLP` or `RESIDUAL`.
        skip_first: Leave out the first word of every sentence, as saliency does: it is an attention sink, where some
            neurons take values hundreds of times their usual ones.
        max_length: Tokens of a sentence that are used.
        tokens_per_batch: Padded tokens that run at once.

    Raises:
        ConceptError: there are no sentences, or no token of them is left.
        ConfigError: there are no neurons, they do not fit the model, or the site has no single activations.
        MemoryShortError: the activations would not fit.
        ModelFileError: an activation is not finite; names the layer.
    """
    _check(model, sentences, neurons, site)
    limit = min(max_length, model.context_length)
    rows = [_read(model, sentence, limit, skip_first) for sentence in sentences]
    lengths = np.array([len(row.kept) for row in rows])
    if not lengths.sum():
        raise ConceptError("No token of the sentences is left. Give longer sentences, or keep their first words.")
    values_TK = _activations(model, rows, np.cumsum(lengths) - lengths, neurons, site, tokens_per_batch)
    return _assembled(model, sentences, neurons, site, rows, values_TK, skip_first)


def split_words(text: str) -> list[Word]:
    """The words of a text: runs of characters without white space, with punctuation at their ends split off.

    Split-off punctuation is a word of its own, as in tokenised corpora: “Paris,” is “Paris” and “,”. So a word's last
    token is never its comma. A text in a script without spaces is one word.
    """
    words = []
    end = 0
    while end < len(text):
        start = end
        while end < len(text) and not text[end].isspace():
            end += 1
        run = text[start:end]
        inside = [i for i, char in enumerate(run) if not unicodedata.category(char).startswith("P")]
        cuts = [0, inside[0], inside[-1] + 1, len(run)] if inside else [0, len(run)]
        words += [Word(run[a:b], start + a, start + b) for a, b in pairwise(cuts) if a < b]
        end += 1
    return words


def _check(model: LanguageModel, sentences: Sequence[Sentence], neurons: NeuronSet, site: Site) -> None:
    widths = {MLP.name: model.n_neurons, RESIDUAL.name: model.d_model}
    if site.name not in widths:
        raise ConfigError(f"{site.plural.capitalize()} have no single activation. Choose {' or '.join(widths)}.")
    if not sentences:
        raise ConceptError("There are no sentences to run the model on. Give at least one.")
    if not len(neurons):
        raise ConfigError(f"No {site.unit} is chosen. Choose at least one.")
    if neurons.shape != (model.n_layers, widths[site.name]):
        raise ConfigError(
            f"The {site.plural} are chosen from {neurons.shape[0]} layers of {neurons.shape[1]}, but “{model.name}” has "
            f"{model.n_layers} layers of {widths[site.name]}. Choose them from this model."
        )


def _read(model: LanguageModel, sentence: Sentence, limit: int, skip_first: bool) -> _Row:
    words = split_words(sentence.text)
    encoded = model.encode(sentence.text)
    cut = TokenizedText(encoded.ids[:limit], encoded.offsets[:limit])
    first = _first_word(sentence.text, cut) if skip_first else 0
    labels, n_lost = _labels(cut, sentence, first)
    word_at = [-1] * len(sentence.text)
    for w, word in enumerate(words):
        word_at[word.start : word.end] = [w] * (word.end - word.start)
    kept = [p for p, (start, end) in enumerate(cut.offsets) if p >= first and end > start]
    offsets = [cut.offsets[p] for p in kept]
    return _Row(
        ids=cut.ids,
        kept=kept,
        offsets=offsets,
        labels=[labels[p] for p in kept],
        words=words,
        word_of=[next((w for w in word_at[start:end] if w >= 0), -1) for start, end in offsets],
        n_cut=len(encoded) - len(cut),
        n_lost=n_lost,
    )


def _assembled(
    model: LanguageModel,
    sentences: Sequence[Sentence],
    neurons: NeuronSet,
    site: Site,
    rows: list[_Row],
    values_TK: np.ndarray,
    skip_first: bool,
) -> TokenActivations:
    first_word = np.cumsum([0, *(len(row.words) for row in rows)])
    return TokenActivations(
        model=model.name,
        site=site,
        neurons=neurons,
        sentences=tuple(sentences),
        values_TK=values_TK,
        ids_T=np.array([row.ids[p] for row in rows for p in row.kept], dtype=np.int32),
        sentence_T=np.repeat(np.arange(len(rows), dtype=np.int32), [len(row.kept) for row in rows]),
        offsets_T2=np.array([pair for row in rows for pair in row.offsets], dtype=np.int32).reshape(-1, 2),
        labels_T=np.array([label for row in rows for label in row.labels], dtype=bool),
        word_T=np.array([-1 if w < 0 else first_word[s] + w for s, row in enumerate(rows) for w in row.word_of]),
        words=tuple(Word(word.text, word.start, word.end, s) for s, row in enumerate(rows) for word in row.words),
        skips_first=skip_first,
        n_cut=sum(row.n_cut for row in rows),
        n_spans_lost=sum(row.n_lost for row in rows),
    )


def _activations(
    model: LanguageModel, rows: list[_Row], starts: np.ndarray, neurons: NeuronSet, site: Site, tokens_per_batch: int
) -> np.ndarray:
    """The activations, float32 [T, K]; sentence `s` fills the rows from `starts[s]` on."""
    n_tokens = sum(len(row.kept) for row in rows)
    MemoryEstimate(
        needed=n_tokens * len(neurons) * 4,
        free=free_bytes("cpu"),
        device="cpu",
        what=f"Keeping {len(neurons):,} {site.plural} at {n_tokens:,} tokens",
        advice=f"Choose fewer {site.plural} or fewer sentences.",
    ).check()
    values_TK = np.empty((n_tokens, len(neurons)), dtype=np.float32)
    by_layer = neurons.by_layer()
    first_column = np.cumsum(neurons.counts()) - neurons.counts()
    targets = np.empty(0, dtype=np.int64)
    places = torch.empty(0, dtype=torch.long)

    def keep(layer: int):
        index = torch.from_numpy(by_layer[layer]).to(model.device)
        columns = slice(first_column[layer], first_column[layer] + len(index))

        def hook(activation: Tensor, hook: object) -> None:
            chosen = activation.detach().index_select(-1, index).flatten(0, 1)[places]
            values_TK[targets, columns] = chosen.float().cpu().numpy()

        return hook

    with model.hooks([(site.hook(layer), keep(layer)) for layer in by_layer]), torch.inference_mode():
        for batch in bucket([len(row.ids) for row in rows], tokens_per_batch):
            tokens_BP = pad([rows[i].ids for i in batch], model)
            width = tokens_BP.shape[1]
            targets = np.concatenate([starts[i] + np.arange(len(rows[i].kept)) for i in batch])
            flat = [b * width + p for b, i in enumerate(batch) for p in rows[i].kept]
            places = torch.tensor(flat, dtype=torch.long, device=model.device)
            model.residual(tokens_BP)
    broken = np.flatnonzero(~np.isfinite(values_TK).all(axis=0))
    if broken.size:
        layer = int(neurons.flat[broken[0]]) // neurons.shape[1]
        raise not_finite(model, f"activations at {site.hook(layer)}")
    return values_TK
