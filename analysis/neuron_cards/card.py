"""All that is known of one unit, put together: words, contexts, activations, error bars, vocabulary, other concepts.

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
    """One unit on one concept's sentences."""

    unit: Unit
    concept: str
    words: pd.DataFrame
    """Its highest activating words: word, score, n_occurrences, signed_mean (`top_words.WordScores.table`)."""
    contexts: tuple[Context, ...]
    """Where it is active, by sign and quantile."""
    own: np.ndarray
    """Activations at the concept's tokens."""
    other: np.ndarray
    """Activations at the other tokens."""
    limit: float
    """99.9th percentile of |activation| over all tokens: where a colour scale may end."""
    error_bars: BootstrapScores | None
    """Its scores with intervals over sentences; None where too few sentences hold the concept."""
    vocabulary: VocabularyEffect | None
    """What it writes; None for a unit without an output vector of its own."""


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
    """Everything about a neuron or a residual dimension on a concept's sentences.

    Args:
        model: The model.
        concept: Its sentences are the text.
        unit: What to look at.
        scan: A scan of this concept alone at the unit's site: then no pass is run if it kept all activations, and the
            share of resamples above the score of the top 1% is known.
        n_words: Highest activating words.
        n_contexts: Contexts of each sign and quantile.
        n_resamples: Bootstrap resamples.
        seed: Draws them.

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
    except ConceptError:  # one sentence only: the rest of the card is as good
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
    """The unit's activations on the concept's sentences, without their first words; from the scan if it has them.

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
    """The place of a unit for each of several concepts: concept, score, place (1 = most salient), n, in_top.

    `in_top` says whether it is in the top 1%. Units with equal scores share the worst of their places, so a unit that
    never moves is not told apart from others like it.
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
