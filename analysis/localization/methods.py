"""Runs any localization method by name and chooses a circuit from its effects.

A localization holds effects (or a probe curve) and the circuit chosen from them, to which an edit can be confined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from analysis.checks import Range, Seed, checked
from analysis.components.circuit import Circuit, EffectMap, Kind
from analysis.concepts import Concept, Fact
from analysis.edits import n_parameters
from analysis.errors import ConceptError, ConfigError
from analysis.localization.controls import CONTROLS, control, matched
from analysis.localization.fact_lookup import MIN_EFFECT, N_HEADS, lookup_by_paths, lookup_by_probe
from analysis.localization.patching import activation_patching, all_components, causal_tracing, check_metric
from analysis.localization.paths import direct_effects
from analysis.localization.probing import MAX_PROMPTS, ProbeCurve, measure_curve
from analysis.models import LanguageModel
from analysis.progress import Progress
from analysis.saliency.attribution import attribution_patching
from analysis.scoring import factual_recall
from analysis.scoring.contrast_pairs import CORRUPTIONS, Corruption, Metric, PromptPairs, pair_prompts

__all__ = [
    "DEFAULT_CORRUPTION",
    "DEFAULT_KINDS",
    "DEFAULT_METRIC",
    "DEFAULT_TOP",
    "MAX_PAIRS",
    "METHODS",
    "Localization",
    "localize",
]

METHODS: dict[str, str] = {
    "fact_lookup_probe": "MLP layers over which a probe on the subject learns the answer (FLU); accuracy added",
    "fact_lookup_paths": "MLP layers that write what the answer's heads read (FLU); share of the clean-corrupted gap",
    "causal_tracing": "restore one component while the subject is noisy, exact; unit of the metric",
    "attribution_patching": "gradient × (clean - corrupted), an estimate for all components at once; unit of the metric",
    "activation_patching": "restore one component in the corrupted run, exact; unit of the metric",
    "direct_effects": "what each head writes straight to the output; share of the clean-corrupted gap",
    **CONTROLS,
}
"""Name of a method -> what it does; the unit of its effects."""

DEFAULT_TOP = 10
"""Number of components chosen, by |effect|, if neither a number, a threshold nor a circuit to match is given."""

ATTRIBUTION_STEPS = 5
"""Points between the corrupted and the clean run at which the gradient is taken. With a single point the estimate has the
wrong sign for the first layers on some concepts (docs/localization.md)."""

DEFAULT_METRIC: dict[str, Metric] = {"fact_lookup_paths": "logit_difference", "direct_effects": "logit_difference"}
"""Default metric by method; log_p for all others."""

DEFAULT_CORRUPTION: dict[str, Corruption] = {
    "fact_lookup_paths": "random",
    "direct_effects": "random",
    "causal_tracing": "noise",
}
"""Default corruption by method; swap for all others."""

DEFAULT_KINDS: dict[str, tuple[Kind, ...]] = {"fact_lookup_paths": ("mlp",), "direct_effects": ("head",)}
"""Default kinds of components by method; heads and MLP layers for all others."""

MAX_PAIRS = 48
"""Default number of clean prompts, each paired with a corrupted one."""

_ALLOWED_KINDS: dict[str, tuple[Kind, ...]] = {
    "attribution_patching": ("head", "mlp", "neuron"),
    "direct_effects": ("head",),
}


@dataclass(frozen=True, kw_only=True)
class Localization:
    """The effects or probe curve of one method, and the circuit chosen from them."""

    method: str
    effects: EffectMap | None
    """None for probes and controls."""
    probe: ProbeCurve | None
    """Only for the method fact_lookup_probe."""
    circuit: Circuit
    provenance: dict[str, Any]


@checked
def localize(
    model: LanguageModel,
    concept: Concept,
    method: str,
    *,
    facts: Sequence[Fact] | None = None,
    metric: Metric | None = None,
    corruption: Corruption | None = None,
    max_prompts: Annotated[int, Range(least=1)] | None = None,
    kinds: Sequence[Kind] | None = None,
    top: Annotated[int, Range(least=1)] | None = None,
    threshold: Annotated[float, Range(least=0)] | None = None,
    match: Circuit | None = None,
    seed: Seed = 0,
    progress: Progress | None = None,
) -> Localization:
    """Find the components of a concept by one of `METHODS`.

    Args:
        model: The model.
        concept: The concept whose prompts are used.
        method: One of `METHODS`.
        facts: Facts to ask for; default: those the model knows (`factual_recall.known_facts`).
        metric: One of `contrast_pairs.METRICS`; default: that of the method (`DEFAULT_METRIC`). Probes use none.
        corruption: One of `contrast_pairs.CORRUPTIONS`; default: that of the method (`DEFAULT_CORRUPTION`). Probes use
            none.
        max_prompts: Most prompts; default: `MAX_PAIRS`, for probes `probing.MAX_PROMPTS`.
        kinds: Kinds of components to measure and choose; default: those of the method (`DEFAULT_KINDS`). ("mlp",) gives
            a method's MLP-only variant; with "head", fact_lookup_paths adds its extraction heads.
        top: Number of components to choose; for fact_lookup_paths, number of extraction heads.
        threshold: Least |effect| of a chosen component.
        match: Choose as many parameters as this circuit has, if neither `top` nor `threshold` is given; random controls
            require it.
        seed: Draws prompts, corruptions, folds and random components.
        progress: Called with a stage's name and its share done.

    Raises:
        ConfigError: the method or a setting is unknown or out of range.
        ConceptError: there are too few facts.
        EditError: no component reaches the threshold.
        MissingHookError: the model lacks a hook that the method needs.
        UnsupportedArchitectureError: the method does not support the model's architecture.
    """
    if method not in METHODS:
        raise ConfigError(f"“{method}” is not a localization method. Use {', '.join(METHODS)}.")
    if method in CONTROLS:
        return _found(method, control(model, method, match=match, seed=seed))
    metric = DEFAULT_METRIC.get(method, "log_p") if metric is None else metric
    corruption = DEFAULT_CORRUPTION.get(method, "swap") if corruption is None else corruption
    kinds = DEFAULT_KINDS.get(method, ("head", "mlp")) if kinds is None else tuple(kinds)
    _check(method, metric, corruption, kinds)
    facts = _known(model, concept) if facts is None else list(facts)
    if method == "fact_lookup_probe":
        limit = MAX_PROMPTS if max_prompts is None else max_prompts
        curve = measure_curve(model, concept, facts, max_prompts=limit, seed=seed, progress=progress)
        return _found(method, lookup_by_probe(curve, model.component_shape), probe=curve)
    limit = MAX_PAIRS if max_prompts is None else max_prompts
    pairs = pair_prompts(model, concept, facts, corruption=corruption, max_prompts=limit, seed=seed)
    if method == "fact_lookup_paths":
        effects, circuit = lookup_by_paths(
            model,
            pairs,
            metric=metric,
            n_heads=N_HEADS if top is None else top,
            threshold=MIN_EFFECT if threshold is None else threshold,
            with_heads="head" in kinds,
            progress=progress,
        )
        return _found(method, circuit, effects=effects)
    effects = _effects(model, pairs, method, metric, kinds, progress)
    if top is None and threshold is None and match is not None:
        circuit = matched(model, effects, n_parameters(model, match), kinds=kinds)
    else:
        default = DEFAULT_TOP if top is None and threshold is None else top
        circuit = effects.circuit(top=default, threshold=threshold, kinds=kinds)
    return _found(method, circuit, effects=effects)


def _effects(
    model: LanguageModel,
    pairs: PromptPairs,
    method: str,
    metric: Metric,
    kinds: Sequence[Kind],
    progress: Progress | None,
) -> EffectMap:
    if method == "attribution_patching":
        return attribution_patching(model, pairs, metric=metric, steps=ATTRIBUTION_STEPS)
    if method == "direct_effects":
        return direct_effects(model, pairs, metric=metric, progress=progress)
    exact = causal_tracing if method == "causal_tracing" else activation_patching
    parts = [part for part in all_components(model) if part.kind in kinds]
    return exact(model, pairs, metric=metric, components=parts, progress=progress)


def _found(
    method: str, circuit: Circuit, *, effects: EffectMap | None = None, probe: ProbeCurve | None = None
) -> Localization:
    return Localization(method=method, effects=effects, probe=probe, circuit=circuit, provenance=circuit.provenance)


def _known(model: LanguageModel, concept: Concept) -> list[Fact]:
    """Return the facts that the model knows; there is no circuit for facts it does not know."""
    if not concept.facts:
        raise ConceptError(
            f"“{concept.name}” has no facts that can be asked for, and circuits are found by asking. Add facts to it."
        )
    known, table = factual_recall.known_facts(model, concept)
    if not known:
        raise ConceptError(
            f"“{model.name}” knows none of the {len(table)} facts of “{concept.name}” (mean P(answer) at most "
            f"{table['p'].max():.2f}; known from {factual_recall.KNOWN_THRESHOLD:g}). Choose another concept or a larger model."
        )
    return known


def _check(method: str, metric: str, corruption: str, kinds: Sequence[Kind]) -> None:
    check_metric(metric)
    if corruption not in CORRUPTIONS:
        raise ConfigError(f"“{corruption}” is no corruption. Use {', '.join(CORRUPTIONS)}.")
    if method == "causal_tracing" and corruption != "noise":
        raise ConfigError(
            f"Causal tracing corrupts with noise, not with “{corruption}”. For that use activation patching."
        )
    allowed = _ALLOWED_KINDS.get(method, ("head", "mlp"))
    if not kinds or not set(kinds) <= set(allowed):
        raise ConfigError(
            f"{method} measures {', '.join(allowed)}, not {', '.join(kinds) or 'nothing'}. For neurons use attribution "
            "patching, or activation_patching with a short list of components."
        )
