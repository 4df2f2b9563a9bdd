"""Ranks the words that activate a neuron most, and picks example contexts for it.

Highest activating words follow Lo, Cohen & Barez (2024): score(word) = mean of |z| over its occurrences, divided by the
neuron's maximum, where z is the neuron's activation standardised over all words of the text. The paper does not say
which maximum; here it is the largest of the neuron's word means, so that its first word scores 1, as in the NeuroX
toolkit (Dalvi et al. 2019) that the paper builds on.

Axes: `T` token of the text, `O` occurrence of a word, `W` distinct word, `K` chosen neuron.
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
"""Ways to reduce a word's tokens to one activation."""

QUANTILES = (0.9, 0.75, 0.5)
"""Quantiles of |activation| from which contexts are taken, besides the top."""

_BLOCK = 2**22
"""Most activations converted to float64 at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WordScores:
    """The highest activating words of every chosen neuron."""

    neurons: NeuronSet
    site: Site
    words_K: tuple[tuple[str, ...], ...]
    """Each neuron's words, strongest first; empty for a neuron with constant activation."""
    table: pd.DataFrame
    """One row per neuron and word: neuron, word, score (1 = the neuron's first word), n_occurrences, signed_mean (mean
    z), and sentence and last token (row of `TokenActivations`) of the occurrence with the largest
    |z|."""
    aggregate: str
    fold_case: bool
    minimum: float
    top: int | None
    n_words: int
    """Number of distinct words in the text."""

    def of(self, neuron: Neuron) -> tuple[str, ...]:
        """The words of one neuron.

        Raises:
            ConfigError: the neuron is not one of `neurons`.
        """
        return self.words_K[column_of(neuron, self.neurons, self.site)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """One token at which a neuron is active, in its sentence."""

    neuron: str
    sign: Literal["positive", "negative"]
    """Sign of the activation."""
    quantile: float
    """Quantile of |activation|, among tokens with this sign, that the example illustrates; 1 for the top."""
    value: float
    """The activation."""
    sentence: int
    text: str
    start: int
    end: int
    """The token's characters [start, end) in `text`."""
    word: str
    """The word the token starts in; empty for white space."""
    ranges: tuple[tuple[int, int], ...]
    """Character ranges of all recorded tokens of the sentence."""
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
    """The words with the largest mean |z| for every chosen neuron.

    Words of equal score keep the order of the text. A word that occurs once is scored by that occurrence alone; see
    `n_occurrences`.

    Args:
        activations: Activations at every token.
        aggregate: How a word's tokens are reduced to one activation, one of `AGGREGATES`.
        fold_case: Count “The” and “the” as one word.
        minimum: Keep words with a score above this.
        top: Keep at most this many words; None keeps all above `minimum`.

    Raises:
        ConfigError: a setting is out of range.
        ConceptError: the text has no words.
    """
    if aggregate not in AGGREGATES:
        raise ConfigError(
            f"“{aggregate}” is not a way to reduce a word's tokens to one activation. Use {', '.join(AGGREGATES)}."
        )
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

    For each sign of the activation separately, because gated neurons use both: the `n` tokens of largest |activation|,
    then for each quantile the `n` tokens closest to it. Within a group every sentence appears at most once, and no
    token appears in two groups. A sign that never occurs has no contexts.

    Args:
        activations: Activations at every token.
        neuron: One of `activations.neurons`.
        n: Most contexts in each group.
        quantiles: Between 0 and 1, of |activation| among the tokens with the same sign.

    Raises:
        ConfigError: the neuron's activations were not recorded, or `n` or a quantile is out of range.
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
    """Occurrences of words as ranges of token rows."""

    tokens: np.ndarray
    """Rows of the activations that belong to a word; occurrence `o` is `tokens[starts[o] : ends[o]]`."""
    starts: np.ndarray
    ends: np.ndarray
    kind_O: np.ndarray
    """Index of each occurrence's word in `vocabulary`."""
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
    """Reduces the activations of each occurrence's tokens to one, [O, K]."""
    if how == "last":
        return values_TK[found.ends - 1]
    if how == "mean":
        return np.add.reduceat(values_TK, found.starts) / (found.ends - found.starts)[:, None]
    high, low = np.maximum.reduceat(values_TK, found.starts), np.minimum.reduceat(values_TK, found.starts)
    return np.where(high >= -low, high, low)


def _score(z_OK: np.ndarray, found: _Occurrences, minimum: float, top: int | None) -> list[pd.DataFrame]:
    """For each neuron a table of its words (as indices), their scores and strongest occurrences."""
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
    """z-scores of each column; 0 instead of 0/0 for a constant neuron (such as a pruned one)."""
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
