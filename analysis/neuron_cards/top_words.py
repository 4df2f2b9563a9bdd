"""Which words a neuron responds to, and where in the text it does.

Highest activating words as Lo, Cohen & Barez (2024) list them: score(word) = mean over its occurrences of |z|, divided
by the neuron's maximum, z the neuron's activation standardised over all words of the text. Which maximum the paper does
not say: here it is that of the neuron's word scores, so that its first word has 1, as in the NeuroX toolkit (Dalvi et
al. 2019) that the paper builds on.

Axes: `T` token of the text, `O` occurrence of a word in it, `W` different word, `K` traced neuron.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from analysis.components.neurons import Neuron, NeuronSet
from analysis.components.sites import Site
from analysis.errors import ConceptError, ConfigError
from analysis.neuron_cards.token_activations import TokenActivations, column_of

__all__ = ["AGGREGATES", "QUANTILES", "Context", "WordScores", "contexts", "word_scores"]

AGGREGATES = {
    "last": "the activation at the word's last token",
    "mean": "the mean over the word's tokens",
    "max": "the activation of largest size among the word's tokens, with its sign",
}
"""How a word of several tokens gets one activation."""

QUANTILES = (0.9, 0.75, 0.5)
"""Where examples are taken from, besides the top."""

_BLOCK = 2**22
"""Most activations that are turned to float64 at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WordScores:
    """The highest activating words of every traced neuron."""

    neurons: NeuronSet
    site: Site
    words_K: tuple[tuple[str, ...], ...]
    """Each neuron's words, strongest first; empty for a neuron that never moves."""
    table: pd.DataFrame
    """One row a neuron and word: neuron, word, score (1 = the neuron's first word), n_occurrences, signed_mean (mean z,
    standard deviations: negative where the neuron goes down), sentence and last token (row of the trace) of the
    occurrence with the largest |z|."""
    aggregate: str
    fold_case: bool
    minimum: float
    top: int | None
    n_words: int
    """Different words of the text."""

    def of(self, neuron: Neuron) -> tuple[str, ...]:
        """The words of one neuron.

        Raises:
            ConfigError: the neuron was not traced.
        """
        return self.words_K[column_of(neuron, self.neurons, self.site)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """One token at which a neuron is active, in its sentence."""

    neuron: str
    sign: Literal["positive", "negative"]
    """Sign of the activation."""
    quantile: float
    """1 for the top; else the quantile of the tokens with this sign, by size, that the example stands for."""
    value: float
    """The activation."""
    sentence: int
    text: str
    start: int
    end: int
    """Characters [start, end) of the text that the token stands for."""
    word: str
    """The word the token starts in; empty for white space."""
    ranges: tuple[tuple[int, int], ...]
    """Character ranges of all traced tokens of the sentence."""
    values: tuple[float, ...]
    """The neuron's activation at each of them."""


def word_scores(
    activations: TokenActivations,
    *,
    aggregate: str = "last",
    fold_case: bool = False,
    minimum: float = 0.1,
    top: int | None = 5,
) -> WordScores:
    """The words with the largest mean |z| for every traced neuron.

    Words of equal score come in the order of the text. A word that occurs once is scored by that occurrence alone: see
    `n_occurrences`.

    Args:
        trace: Activations at every token.
        aggregate: How a word of several tokens gets one activation, one of `AGGREGATES`.
        fold_case: Count “The” and “the” as one word.
        minimum: Keep words with a score above this.
        top: Keep at most so many words; None keeps all above `minimum`.

    Raises:
        ConfigError: a setting is out of range.
        ConceptError: the text has no words.
    """
    if aggregate not in AGGREGATES:
        raise ConfigError(f"“{aggregate}” does not say how tokens make a word. Use {', '.join(AGGREGATES)}.")
    if not 0 <= minimum < 1:
        raise ConfigError(f"The minimum score is {minimum}; it must be at least 0 and below 1.")
    if top is not None and top < 1:
        raise ConfigError(f"The number of words is {top}; it must be at least 1, or None for all.")
    found = _occurrences(activations, fold_case)
    parts = []
    for columns in _blocks(activations.values_TK.shape):
        activation_OK = _aggregate(activations.values_TK[found.tokens, columns].astype(np.float64), found, aggregate)
        parts += _score(_standardise(activation_OK), found, minimum, top)
    k = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    table = pd.concat(parts, ignore_index=True)
    token = found.tokens[found.ends[table["occurrence"]] - 1]
    words = found.vocabulary[table["word"]]
    limits = np.searchsorted(k, np.arange(len(parts) + 1))
    return WordScores(
        neurons=activations.neurons,
        site=activations.site,
        words_K=tuple(tuple(words[a:b]) for a, b in pairwise(limits)),
        table=pd.DataFrame(
            {
                "neuron": np.array(activations.names, dtype=object)[k],
                "word": words,
                "score": table["score"],
                "n_occurrences": np.bincount(found.kind_O)[table["word"]],
                "signed_mean": table["signed_mean"],
                "sentence": activations.sentence_T[token],
                "token": token,
            }
        ),
        aggregate=aggregate,
        fold_case=fold_case,
        minimum=minimum,
        top=top,
        n_words=len(found.vocabulary),
    )


def contexts(
    activations: TokenActivations, neuron: Neuron, n: int = 5, *, quantiles: Sequence[float] = QUANTILES
) -> list[Context]:
    """Tokens at which a neuron is active, in their sentences: the strongest, and examples from lower quantiles.

    For each sign of the activation by itself, because gated neurons use both: the `n` tokens of largest size, then for
    each quantile the `n` tokens whose size is closest to it. Within each of these groups every sentence appears once,
    and no token appears twice at all. A sign that never occurs has no contexts.

    Args:
        trace: Activations at every token.
        neuron: One of the traced neurons.
        n: Contexts in each group, fewer where there are no more.
        quantiles: Between 0 and 1; among the tokens with the same sign.

    Raises:
        ConfigError: the neuron was not traced, or `n` or a quantile is out of range.
    """
    if n < 1:
        raise ConfigError(f"The number of contexts is {n}; it must be at least 1.")
    if wrong := [q for q in quantiles if not 0 < q < 1]:
        raise ConfigError(f"The quantile {wrong[0]} is out of range; it must lie between 0 and 1.")
    values_T = activations.values_TK[:, activations.column(neuron)]
    found = []
    for sign, side in (("positive", 1), ("negative", -1)):
        rows = np.flatnonzero(side * values_T > 0)
        size = np.abs(values_T[rows]).astype(np.float64)
        taken: set[int] = set()
        for quantile in (1.0, *quantiles) if rows.size else ():
            distance = np.abs(size - np.quantile(size, quantile))
            group: list[int] = []
            seen: set[int] = set()
            for row in rows[np.argsort(distance, kind="stable")].tolist():
                sentence = int(activations.sentence_T[row])
                if row in taken or sentence in seen:
                    continue
                seen.add(sentence)
                group.append(row)
                if len(group) == n:
                    break
            taken.update(group)
            found += [_context(activations, neuron, row, sign, quantile, values_T) for row in group]
    return found


@dataclass(frozen=True)
class _Occurrences:
    """Where the words of a text are."""

    tokens: np.ndarray
    """Rows of the trace that belong to a word; occurrence `o` has those from `starts[o]` to `ends[o]`."""
    starts: np.ndarray
    ends: np.ndarray
    kind_O: np.ndarray
    """Which word of the vocabulary each occurrence is."""
    vocabulary: np.ndarray


def _occurrences(activations: TokenActivations, fold_case: bool) -> _Occurrences:
    tokens = np.flatnonzero(activations.word_T >= 0)
    if not tokens.size:
        raise ConceptError("The text has no words, only white space. Give ordinary sentences.")
    # tokens of one word follow each other, so occurrences are runs of equal indices
    starts = np.flatnonzero(np.diff(activations.word_T[tokens], prepend=-1))
    texts = [activations.words[w].text for w in activations.word_T[tokens[starts]]]
    kind_O, vocabulary = pd.factorize(
        np.array([text.casefold() if fold_case else text for text in texts], dtype=object)
    )
    return _Occurrences(tokens, starts, np.append(starts[1:], tokens.size), kind_O, np.asarray(vocabulary, object))


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Ranges of columns of at most `_BLOCK` values."""
    width = max(_BLOCK // max(shape[0], 1), 1)
    for start in range(0, shape[1], width):
        yield slice(start, min(start + width, shape[1]))


def _aggregate(values_TK: np.ndarray, found: _Occurrences, how: str) -> np.ndarray:
    """One activation for each occurrence of a word, [O, K], from those of its tokens."""
    if how == "last":
        return values_TK[found.ends - 1]
    if how == "mean":
        return np.add.reduceat(values_TK, found.starts) / (found.ends - found.starts)[:, None]
    high, low = np.maximum.reduceat(values_TK, found.starts), np.minimum.reduceat(values_TK, found.starts)
    return np.where(high >= -low, high, low)


def _score(z_OK: np.ndarray, found: _Occurrences, minimum: float, top: int | None) -> list[pd.DataFrame]:
    """For each neuron its words, as indices, with scores and the strongest occurrence."""
    order = np.argsort(found.kind_O, kind="stable")
    counts_W = np.bincount(found.kind_O)
    begins_W = np.cumsum(counts_W) - counts_W
    z_OK = z_OK[order]
    size_OK = np.abs(z_OK)
    mean_WK = np.add.reduceat(size_OK, begins_W) / counts_W[:, None]
    signed_WK = np.add.reduceat(z_OK, begins_W) / counts_W[:, None]
    highest_K = mean_WK.max(axis=0)
    score_WK = np.divide(mean_WK, highest_K, out=np.zeros_like(mean_WK), where=highest_K > 0)
    parts = []
    for k in range(z_OK.shape[1]):
        words = np.flatnonzero(score_WK[:, k] > minimum)
        words = words[np.argsort(-score_WK[words, k], kind="stable")][:top]
        strongest = [begins_W[w] + size_OK[begins_W[w] : begins_W[w] + counts_W[w], k].argmax() for w in words]
        columns = {
            "word": words,
            "score": score_WK[words, k],
            "signed_mean": signed_WK[words, k],
            "occurrence": order[np.array(strongest, dtype=np.int64)],
        }
        parts.append(pd.DataFrame(columns))
    return parts


def _standardise(values_OK: np.ndarray) -> np.ndarray:
    """z of each column; 0 for a neuron that never moves (a pruned one), not 0/0."""
    centred = values_OK - values_OK.mean(axis=0)
    deviation = values_OK.std(axis=0)
    moves = deviation > 1e-9 * np.abs(values_OK).max(axis=0)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=moves)


def _context(
    activations: TokenActivations, neuron: Neuron, row: int, sign: str, quantile: float, values_T: np.ndarray
) -> Context:
    sentence = int(activations.sentence_T[row])
    rows = activations.rows(sentence)
    start, end = activations.offsets_T2[row].tolist()
    word = int(activations.word_T[row])
    return Context(
        neuron=activations.site.label(neuron.layer, neuron.index),
        sign=sign,  # type: ignore[arg-type]
        quantile=quantile,
        value=float(values_T[row]),
        sentence=sentence,
        text=activations.sentences[sentence].text,
        start=start,
        end=end,
        word=activations.words[word].text if word >= 0 else "",
        ranges=tuple((a, b) for a, b in activations.offsets_T2[rows].tolist()),
        values=tuple(values_T[rows].tolist()),
    )
