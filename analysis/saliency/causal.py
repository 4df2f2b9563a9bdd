"""Saliency from what units do to P(answer): gradients, patching, ablation (`analysis.saliency.attribution`).

The answers are those of the concept's facts that the model knows; a concept without facts is asked for its labelled
words in their sentences instead.

Axes: `L` layer, `N` unit in a layer.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.components.sites import MLP, Site
from analysis.concepts import Concept, Fact
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.saliency import attribution
from analysis.saliency.result import Saliency, check_method
from analysis.scoring.contrast_pairs import answer_batches, pair_prompts
from analysis.scoring.factual_recall import KNOWN_THRESHOLD, known_facts

__all__ = ["ablation", "measure"]

EXAMPLES = {"gradient_x_activation": 48, "integrated_gradients": 12, "attribution_patching": 48, "ablation": 24}
"""How many prompts a method is averaged over; integrated gradients take `steps` passes a layer."""


def measure(
    model: LanguageModel,
    concept: Concept,
    method: str,
    *,
    site: Site = MLP,
    seed: int = 0,
    facts: Sequence[Fact] | None = None,
    progress: attribution.Progress | None = None,
    **options: Any,
) -> Saliency:
    """Score every unit by one of the gradient methods.

    Args:
        model: The model.
        concept: Gives facts, templates and sentences.
        method: gradient_x_activation, integrated_gradients or attribution_patching.
        site: Where to look.
        seed: Draws the prompts, and the twins of attribution patching.
        facts: Facts to ask for (default: those the model knows).
        progress: Called with the share done (integrated gradients).
        options: `max_examples`; `steps`; `corruption`, `metric` and `at` of attribution patching.

    Raises:
        ConfigError: the method is unknown or not one of these.
        ConceptError: the model knows none of the facts, or there is nothing to ask for.
    """
    check_method(method, site)
    count = int(options.pop("max_examples", EXAMPLES.get(method, 48)))
    facts = _known(model, concept) if facts is None else facts
    details: dict[str, Any] = {"model": model.name, "dtype": model.dtype, "site": site.name, "seed": seed}
    layers: dict[str, np.ndarray] = {}
    if method == "attribution_patching":
        corruption = options.pop("corruption", "swap")
        pairs = pair_prompts(model, concept, facts, corruption=corruption, max_prompts=count, seed=seed)
        effects = attribution.patching_effects(model, pairs, [site], **options)[site.name]
        details |= pairs.provenance
    elif method in ("gradient_x_activation", "integrated_gradients"):
        batches = answer_batches(model, concept, facts, max_examples=count, seed=seed)
        if method == "gradient_x_activation":
            effects = attribution.gradient_x_activation(model, batches, site, **options)
        else:
            effects = attribution.integrated_gradients(model, batches, site, progress=progress, **options)
        if effects.completeness_L is not None:
            layers["completeness_error"] = effects.completeness_L
    else:
        raise ConfigError(f"{method} is no gradient method.")
    return _saliency(concept, method, effects, site, details | options, layers)


def ablation(
    model: LanguageModel,
    concept: Concept,
    units: Sequence[tuple[int, int]],
    *,
    site: Site = MLP,
    seed: int = 0,
    facts: Sequence[Fact] | None = None,
    max_examples: int = EXAMPLES["ablation"],
    progress: attribution.Progress | None = None,
) -> Saliency:
    """Exact effect of the named (layer, unit) pairs; all others are NaN.

    Raises:
        ConfigError: no unit is named.
        ConceptError: the model knows none of the facts, or there is nothing to ask for.
    """
    facts = _known(model, concept) if facts is None else facts
    batches = answer_batches(model, concept, facts, max_examples=max_examples, seed=seed)
    effects = attribution.ablation(model, batches, units, site, progress=progress)
    details = {"model": model.name, "dtype": model.dtype, "site": site.name, "seed": seed, "units": len(units)}
    return _saliency(concept, "ablation", effects, site, details, {})


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
    concept: Concept,
    method: str,
    effects: attribution.Effects,
    site: Site,
    details: dict[str, Any],
    layers: dict[str, np.ndarray],
) -> Saliency:
    return Saliency(
        concept=concept.name,
        method=method,
        scores_LN=np.abs(effects.mean_LN),
        n_concept_tokens=effects.n_examples,
        n_other_tokens=0,
        signed_LN=effects.mean_LN,
        standard_error_LN=effects.standard_error_LN,
        n_independent=effects.n_independent,
        layers=layers,
        provenance=details | {"examples": effects.n_examples},
        site=site.name,
    )
