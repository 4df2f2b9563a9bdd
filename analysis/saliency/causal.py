"""Scores units by their effect on P(answer): gradients, patching, ablation (`analysis.saliency.attribution`).

The answers are those of the concept's facts that the model knows; for a concept without facts, they are its labelled
words in their sentences.

Axes: `L` layer, `N` unit in a layer.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.components.sites import MLP, Site
from analysis.concepts import Concept, Fact
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.progress import ShareDone
from analysis.saliency.method import CausalMethod
from analysis.saliency.methods import METHODS, check_method
from analysis.saliency.methods.ablation import METHOD as ABLATION
from analysis.saliency.result import Saliency
from analysis.scoring.factual_recall import KNOWN_THRESHOLD, known_facts

__all__ = ["ablation", "measure"]


def measure(
    model: LanguageModel,
    concept: Concept,
    method: str,
    *,
    site: Site = MLP,
    seed: int = 0,
    facts: Sequence[Fact] | None = None,
    progress: ShareDone | None = None,
    **options: Any,
) -> Saliency:
    """Score every unit by one of the gradient methods.

    Args:
        model: The model.
        concept: The concept, with its facts, templates and sentences.
        method: One of `CAUSAL_METHODS` that scores every unit.
        site: Site of the units.
        seed: Draws the prompts, and the corrupted prompts of attribution patching.
        facts: Facts to ask for (default: those the model knows).
        progress: Called with the share done (integrated gradients).
        options: `max_examples`; `steps`; `corruption`, `metric` and `at` of attribution patching.

    Raises:
        ConfigError: the method is unknown or not one of these.
        ConceptError: the model knows none of the facts, or the concept has no answers.
    """
    check_method(method, site)
    declared = METHODS[method]
    if not isinstance(declared, CausalMethod) or declared.needs_units:
        raise ConfigError(f"{method} is no gradient method.")
    return _saliency(declared, model, concept, site=site, seed=seed, facts=facts, progress=progress, options=options)


def ablation(
    model: LanguageModel,
    concept: Concept,
    units: Sequence[tuple[int, int]],
    *,
    site: Site = MLP,
    seed: int = 0,
    facts: Sequence[Fact] | None = None,
    max_examples: int = ABLATION.examples,
    progress: ShareDone | None = None,
) -> Saliency:
    """Exact effect of the named (layer, unit) pairs; all others are NaN.

    Raises:
        ConfigError: no unit is named.
        ConceptError: the model knows none of the facts, or the concept has no answers.
    """
    options = {"units": units, "max_examples": max_examples}
    return _saliency(ABLATION, model, concept, site=site, seed=seed, facts=facts, progress=progress, options=options)


def _known(model: LanguageModel, concept: Concept) -> list[Fact]:
    """The facts the model knows; none for a concept without facts."""
    if not concept.facts:
        return []
    known, table = known_facts(model, concept)
    if not known:
        raise ConceptError(
            f"“{model.name}” knows none of the {len(table)} facts of “{concept.name}” (mean P(answer) of at least "
            f"{KNOWN_THRESHOLD:g}), so nothing can support their answers. Choose another model or concept, or a "
            "forward-only method."
        )
    return known


def _saliency(
    method: CausalMethod,
    model: LanguageModel,
    concept: Concept,
    *,
    site: Site,
    seed: int,
    facts: Sequence[Fact] | None,
    progress: ShareDone | None,
    options: dict[str, Any],
) -> Saliency:
    count = int(options.pop("max_examples", method.examples))
    facts = _known(model, concept) if facts is None else facts
    effects, found = method.effects(
        model, concept, facts, site=site, seed=seed, max_examples=count, progress=progress, **options
    )
    details: dict[str, Any] = {"model": model.name, "dtype": model.dtype, "site": site.name, "seed": seed}
    return Saliency(
        concept=concept.name,
        method=method.name,
        scores_LN=np.abs(effects.mean_LN),
        n_concept_tokens=effects.n_examples,
        n_other_tokens=0,
        signed_LN=effects.mean_LN,
        standard_error_LN=effects.standard_error_LN,
        n_independent=effects.n_independent,
        layers={} if effects.completeness_L is None else {"completeness_error": effects.completeness_L},
        provenance=details | found | {"examples": effects.n_examples},
        site=site.name,
    )
