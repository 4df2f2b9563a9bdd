"""Scores how strongly each unit of a model carries a concept, by several methods with one result type.

Forward-only methods read activations: one streamed pass gives all of them, for all concepts (`scan`). Causal methods
measure or approximate a unit's effect on P(answer) (`causal`). Each method is declared in its own module of `methods`.

Axes: `L` layer, `N` unit in a layer (neuron, residual dimension, head), `C` concept.
"""

from collections.abc import Sequence

from analysis.components.sites import MLP, Site
from analysis.concepts import Concept
from analysis.errors import ConfigError
from analysis.models import LanguageModel
from analysis.saliency import causal
from analysis.saliency.carriers import rank_normalise, rank_saliency
from analysis.saliency.forward import from_moments, from_sample
from analysis.saliency.method import Method
from analysis.saliency.methods import (
    CAUSAL_METHODS,
    METHODS,
    MOMENT_METHODS,
    RANKING_METHODS,
    SAMPLE_METHODS,
    check_method,
)
from analysis.saliency.result import Saliency
from analysis.saliency.scanning import Scan, scan

__all__ = [
    "CAUSAL_METHODS",
    "METHODS",
    "MOMENT_METHODS",
    "RANKING_METHODS",
    "SAMPLE_METHODS",
    "Method",
    "Saliency",
    "Scan",
    "check_method",
    "from_moments",
    "from_sample",
    "measure",
    "rank_normalise",
    "rank_saliency",
    "scan",
]


def measure(
    model: LanguageModel,
    concepts: Sequence[Concept],
    *,
    methods: Sequence[str] = ("probeless",),
    site: Site = MLP,
    skip_first: bool = True,
    seed: int = 0,
) -> list[Saliency]:
    """Score every unit for every concept by every method; results are ordered by concept, then by method.

    All forward-only methods of all concepts share one streamed pass over the labelled sentences. Ablation runs the model
    once per unit, so it takes a short list of units: call `causal.ablation` for it.

    Args:
        model: The model.
        concepts: The concepts to score.
        methods: Names from `METHODS`.
        site: Site of the units (`sites.SITES`).
        skip_first: Leave out the first word of every sentence (attention sink).
        seed: Draws the token sample, the probe's folds and the prompts.

    Raises:
        ConfigError: a method is unknown or not defined at this site; the message says why.
        ConceptError: a concept has nothing that can be measured.
    """
    for method in methods:
        check_method(method, site)
        if METHODS[method].needs_units:
            title = METHODS[method].title.capitalize()
            raise ConfigError(
                f"{title} runs the model once for every unit. Name the units: saliency.causal.{method}(...)."
            )
    found: dict[tuple[str, str], Saliency] = {}
    forward = [method for method in methods if method not in CAUSAL_METHODS]
    if forward and concepts:
        sampled = any(method in SAMPLE_METHODS for method in forward)
        one_pass = scan(model, concepts, site=site, skip_first=skip_first, seed=seed, sampled=sampled)
        for concept in concepts:
            for method in forward:
                found[concept.name, method] = one_pass.score(concept.name, method)
    for method in methods:
        if method in CAUSAL_METHODS:
            for concept in concepts:
                found[concept.name, method] = causal.measure(model, concept, method, site=site, seed=seed)
    return [found[concept.name, method] for concept in concepts for method in methods]
