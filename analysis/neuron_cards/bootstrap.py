"""Bootstraps error bars on the scores of chosen neurons by resampling sentences.

Axes: `T` token, `K` chosen neuron, `S` sentence, `R` resample (0 = the original text), `G` group of tokens between two
thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from analysis.errors import ConceptError, ConfigError
from analysis.neuron_cards.token_activations import TokenActivations
from analysis.saliency.method import Groups
from analysis.saliency.methods import MOMENT_METHODS, moment_method
from analysis.stats import resample_counts

__all__ = ["BOOTSTRAP_METHODS", "BootstrapScores", "bootstrap_scores"]

BOOTSTRAP_METHODS = (*MOMENT_METHODS, "average_precision")
"""Saliency methods that can be bootstrapped over sentences."""

_BLOCK = 2**22
"""Most elements of a temporary array."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BootstrapScores:
    """Scores of chosen neurons with confidence intervals over sentences."""

    table: pd.DataFrame
    """One row per neuron and method: neuron, method, score (of the whole text), low, high, share_above (share of
    resamples with a score above the method's threshold; NaN without one)."""
    level: float
    n_resamples: int
    """Resamples used; those without a concept token or without any other token have no score and are left out."""
    n_sentences: int
    n_concept_sentences: int
    """Sentences with a labelled token; with few of them the intervals are too narrow."""


def bootstrap_scores(
    activations: TokenActivations,
    labels_T: np.ndarray | None = None,
    *,
    methods: Sequence[str] = BOOTSTRAP_METHODS,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    thresholds: Mapping[str, float] | None = None,
) -> BootstrapScores:
    """Percentile intervals of each chosen neuron's scores, from resampling whole sentences with replacement.

    Sentences are resampled because tokens of one sentence are not independent; repeated sentences and statements of
    the same fact count as one. Scores are defined as in `saliency`, and equal those if `activations` used the same
    `skip_first`. They are magnitudes (|difference|, the better of two directions), so resampled scores are above 0 even
    for a neuron without any effect, and its interval excludes 0: judge a neuron by `share_above` a threshold, such as
    the score of the top 1%, not by whether the interval contains 0.

    Args:
        activations: Activations at every token.
        labels_T: True at the concept's tokens, bool [T]; by default the tokens in the sentences' spans.
        methods: Some of `BOOTSTRAP_METHODS`. Average precision is slowest: its time grows with neurons x tokens x
            resamples.
        n_resamples: Number of bootstrap resamples.
        level: Confidence level.
        seed: Draws the resamples.
        thresholds: Scores by method, for `share_above`.

    Raises:
        ConfigError: a setting is out of range, or the labels do not fit the activations.
        ConceptError: fewer than two sentences have a labelled token, or there is no other token.
    """
    labels_T = activations.labels_T if labels_T is None else labels_T
    _check_bootstrap(activations, labels_T, methods, n_resamples, level, thresholds or {})
    keys: dict[str, int] = {}
    clusters = np.array([keys.setdefault(one.about or one.text, len(keys)) for one in activations.sentences])
    _, sentence_T = np.unique(clusters[activations.sentence_T], return_inverse=True)
    order_T = np.argsort(sentence_T, kind="stable")  # from here on tokens are grouped by cluster of sentences
    sentence_T, labels_T = sentence_T[order_T], labels_T[order_T]
    n_sentences = int(sentence_T[-1]) + 1
    groups_2T = np.stack([labels_T, ~labels_T])
    counts_2S = np.stack([np.bincount(sentence_T[group], minlength=n_sentences) for group in groups_2T])
    n_concept = int((counts_2S[0] > 0).sum())
    if n_concept < 2 or not counts_2S[1].any():
        raise ConceptError(
            f"The concept's words are in {n_concept} of {n_sentences} sentences with {counts_2S[1].sum()} other words. "
            "Error bars need labelled words in at least two sentences, and other words."
        )
    draws_RS = resample_counts(n_sentences, n_resamples, seed)
    usable_R = (draws_RS @ counts_2S.T > 0).all(axis=1)
    weights_RS = np.concatenate([np.ones((1, n_sentences)), draws_RS[usable_R]])
    rows = []
    for columns in _blocks(activations.values_TK.shape[1], max(len(sentence_T), len(weights_RS))):
        values_TK = activations.values_TK[order_T][:, columns].astype(np.float64)
        scores = _mean_scores(values_TK, groups_2T, sentence_T, counts_2S, weights_RS)
        if "average_precision" in methods:
            both = [
                np.stack([_average_precision(side * v, labels_T, sentence_T, weights_RS) for v in values_TK.T], axis=1)
                for side in (1, -1)
            ]
            scores["average_precision"] = np.maximum(*both)
        names = activations.names[columns]
        for method in methods:
            rows.append(_summary(names, method, scores[method], level, (thresholds or {}).get(method)))
    table = pd.concat(rows)
    order = {name: place for place, name in enumerate(activations.names)}
    table = table.sort_values("neuron", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return BootstrapScores(
        table=table,
        level=level,
        n_resamples=len(weights_RS) - 1,
        n_sentences=n_sentences,
        n_concept_sentences=n_concept,
    )


def _check_bootstrap(
    activations: TokenActivations,
    labels_T: np.ndarray,
    methods: Sequence[str],
    n_resamples: int,
    level: float,
    thresholds: Mapping[str, float],
) -> None:
    for method in (*methods, *thresholds):
        if method not in BOOTSTRAP_METHODS:
            raise ConfigError(f"“{method}” has no error bars over sentences. Use {', '.join(BOOTSTRAP_METHODS)}.")
    if not methods:
        raise ConfigError(f"No method is chosen. Use {', '.join(BOOTSTRAP_METHODS)}.")
    if n_resamples < 100:
        raise ConfigError(f"The number of resamples is {n_resamples}; it must be at least 100.")
    if not 0 < level < 1:
        raise ConfigError(f"The confidence level is {level}; it must lie between 0 and 1, such as 0.95.")
    if labels_T.shape != activations.sentence_T.shape or labels_T.dtype != bool:
        raise ConfigError(
            f"The labels have shape {labels_T.shape} and type {labels_T.dtype}; the activations need {len(activations.sentence_T)} "
            "labels, true or false."
        )


def _blocks(n_columns: int, height: int) -> list[slice]:
    width = max(_BLOCK // height, 1)
    return [slice(start, min(start + width, n_columns)) for start in range(0, n_columns, width)]


def _mean_scores(
    values_TK: np.ndarray, groups_2T: np.ndarray, sentence_T: np.ndarray, counts_2S: np.ndarray, weights_RS: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores of every resample by each of `MOMENT_METHODS`, [R, K], from sums over each sentence."""
    # centring changes no difference of means, and squares of small numbers lose less precision
    centred_TK = values_TK - values_TK.mean(axis=0)
    starts = np.flatnonzero(np.diff(sentence_T, prepend=-1))
    means, variances = [], []
    for group_T, counts_S in zip(groups_2T, counts_2S):
        chosen_TK = centred_TK * group_T[:, None]
        n_R1 = (weights_RS @ counts_S)[:, None]
        mean_RK = weights_RS @ np.add.reduceat(chosen_TK, starts) / n_R1
        square_RK = weights_RS @ np.add.reduceat(chosen_TK**2, starts) / n_R1
        means.append(mean_RK)
        variances.append(np.maximum(square_RK - mean_RK**2, 0))
    groups = Groups(*means, *variances)
    return {name: np.abs(moment_method(name).signed(groups)) for name in MOMENT_METHODS}


def _average_precision(
    values_T: np.ndarray, labels_T: np.ndarray, sentence_T: np.ndarray, weights_RS: np.ndarray
) -> np.ndarray:
    """Average precision of one ranking of tokens in every resample, [R].

    AP = sum over thresholds of (recall gained) x (precision). Tokens are sorted once; a resample only changes each
    token's weight. Thresholds without a concept token gain no recall, so they are merged with the next that has some.
    """
    order = np.argsort(-values_T, kind="stable")
    sorted_T, own_T = values_T[order], labels_T[order]
    threshold_T = np.cumsum(np.append(False, np.diff(sorted_T) != 0))
    with_own = np.unique(threshold_T[own_T])
    group_T = np.searchsorted(with_own, threshold_T)
    own_GS, all_GS = (
        sparse.csr_array(
            (np.ones(chosen.size), (group_T[chosen], sentence_T[order][chosen])),
            shape=(with_own.size, weights_RS.shape[1]),
        )
        for chosen in (np.flatnonzero(own_T), np.flatnonzero(group_T < with_own.size))
    )
    parts = []
    for rows in _blocks(len(weights_RS), with_own.size):
        weights_SR = np.ascontiguousarray(weights_RS[rows].T)
        own_GR = own_GS @ weights_SR
        above_GR = np.cumsum(all_GS @ weights_SR, axis=0)
        precision_GR = np.divide(np.cumsum(own_GR, axis=0), above_GR, out=np.zeros_like(above_GR), where=above_GR > 0)
        parts.append((own_GR * precision_GR).sum(axis=0) / own_GR.sum(axis=0))
    return np.concatenate(parts)


def _summary(
    names: Sequence[str], method: str, scores_RK: np.ndarray, level: float, threshold: float | None
) -> pd.DataFrame:
    """The rows of `BootstrapScores.table` for one method; row 0 of `scores_RK` is the original text."""
    low_K, high_K = np.quantile(scores_RK[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return pd.DataFrame(
        {
            "neuron": names,
            "method": method,
            "score": scores_RK[0],
            "low": low_K,
            "high": high_K,
            "share_above": np.nan if threshold is None else (scores_RK[1:] > threshold).mean(axis=0),
        }
    )
