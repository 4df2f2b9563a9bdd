"""Assembles the card of one unit: words, contexts, activations, error bars, promoted tokens, place in other concepts.

Axes: `L` layer, `N` unit in a layer, `T` token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.components.neurons import Neuron, NeuronSet
from analysis.components.sites import MLP
from analysis.components.units import Unit, site_shape
from analysis.concepts import Concept
from analysis.errors import ConceptError
from analysis.lens.unembedding import VocabularyEffect, neuron_vocabulary
from analysis.models import LanguageModel
from analysis.neuron_cards.bootstrap import BootstrapScores, bootstrap_scores
from analysis.neuron_cards.from_scan import activations_from_scan
from analysis.neuron_cards.token_activations import TokenActivations, token_activations
from analysis.neuron_cards.top_words import Context, contexts, word_scores
from analysis.saliency import MOMENT_METHODS, Saliency, Scan
from analysis.saliency.carriers import CARRIER_SHARE, carrier_count

__all__ = ["NeuronCard", "concept_places", "neuron_card", "unit_activations"]


@dataclass(frozen=True, kw_only=True, eq=False)
class NeuronCard:
    """What a unit does on one concept's sentences."""

    unit: Unit
    concept: str
    words: pd.DataFrame
    """The unit's highest activating words: word, score, n_occurrences, signed_mean (`top_words.WordScores.table`)."""
    contexts: tuple[Context, ...]
    """Tokens at which the unit is active, by sign and quantile."""
    own: np.ndarray
    """Activations at the concept's tokens."""
    other: np.ndarray
    """Activations at the other tokens."""
    limit: float
    """99.9th percentile of |activation| over all tokens, as the end of a colour scale."""
    error_bars: BootstrapScores | None
    """The unit's scores with intervals over sentences; None if too few sentences contain the concept."""
    vocabulary: VocabularyEffect | None
    """Tokens that an MLP neuron's output promotes and suppresses; None for other units."""


def neuron_card(
    model: LanguageModel,
    concept: Concept,
    unit: Unit,
    *,
    scan: Scan | None = None,
    n_words: int = 8,
    n_contexts: int = 3,
    n_resamples: int = 1000,
    seed: int = 0,
) -> NeuronCard:
    """Assemble the card of a neuron or a residual dimension on a concept's sentences.

    Args:
        model: The model.
        concept: Its labelled sentences are the text.
        unit: The neuron or residual dimension.
        scan: A scan of this concept alone at the unit's site. Its activations replace a forward pass if it kept them
            all, and it gives the thresholds (score of the top 1%) for `share_above`.
        n_words: Number of highest activating words.
        n_contexts: Number of contexts for each sign and quantile.
        n_resamples: Number of bootstrap resamples.
        seed: Draws the resamples.

    Raises:
        ConfigError: the unit is an attention head (it has no single activation), or a setting is out of range.
        ConceptError: no token of the sentences is left.
    """
    found = unit_activations(model, concept, unit, scan=scan)
    values_T = found.values_TK[:, 0]
    neuron = Neuron(unit.layer, unit.index)
    thresholds = {}
    if scan is not None:
        for method in MOMENT_METHODS:
            scores_LN = scan.score(concept.name, method).scores_LN
            thresholds[method] = float(np.quantile(scores_LN, 1 - CARRIER_SHARE))
    try:
        error_bars = bootstrap_scores(found, n_resamples=n_resamples, seed=seed, thresholds=thresholds)
    except ConceptError:  # too few sentences for error bars; the rest of the card does not need them
        error_bars = None
    return NeuronCard(
        unit=unit,
        concept=concept.name,
        words=word_scores(found, top=n_words).table,
        contexts=tuple(contexts(found, neuron, n_contexts)),
        own=values_T[found.labels_T],
        other=values_T[~found.labels_T],
        limit=float(np.quantile(np.abs(values_T), 0.999)),
        error_bars=error_bars,
        vocabulary=neuron_vocabulary(model, unit.layer, unit.index) if unit.site == MLP else None,
    )


def unit_activations(
    model: LanguageModel, concept: Concept, unit: Unit, *, scan: Scan | None = None
) -> TokenActivations:
    """The unit's activations on the concept's sentences, without first words; read from the scan if it kept them.

    Raises:
        ConfigError: the unit is an attention head.
        ConceptError: no token of the sentences is left.
    """
    shape = site_shape(model, unit.site)
    neurons = NeuronSet([unit.layer * shape[1] + unit.index], shape)
    found = None if scan is None else activations_from_scan(model, scan, concept.name, neurons)
    if found is not None:
        return found
    return token_activations(model, concept.labelled_sentences(), neurons, site=unit.site, skip_first=True)


def concept_places(results: Sequence[Saliency], unit: Unit) -> pd.DataFrame:
    """Rank of a unit for each of several concepts: concept, score, place (1 = most salient), n, in_top (the top 1%).

    Units with equal scores share the worst of their places, so that units with constant activations all rank last.
    """
    rows = []
    for result in results:
        score = float(result.scores_LN[unit.layer, unit.index])
        place = int((result.scores_LN >= score).sum()) if np.isfinite(score) else result.n_measured
        top = carrier_count(result.n_measured)
        rows.append(
            {
                "concept": result.concept,
                "score": score,
                "place": place,
                "n": result.n_measured,
                "in_top": place <= top and np.isfinite(score),
            }
        )
    return pd.DataFrame(rows)
