"""Patches one component's output from one run into another and measures the effect on the answer, exactly.

`restore` puts a component's clean output into the corrupted run ("denoising": is the component sufficient?), `break` puts
its corrupted output into the clean run ("noising": is it necessary?). Vig et al. 2020, Meng et al. 2022, Zhang & Nanda
2024.

Axes: `L` layer, `H` attention head, `N` neuron in a layer, `B` batch, `P` position.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from analysis.components.circuit import Circuit, Component, EffectMap
from analysis.errors import ConceptError, ConfigError
from analysis.localization.forward import Run, patch_hooks, require_heads, site
from analysis.models import LanguageModel
from analysis.progress import Progress
from analysis.scoring.contrast_pairs import METRICS, Metric, PairBatch, PromptPairs

__all__ = [
    "DIRECTIONS",
    "POSITIONS",
    "Direction",
    "Positions",
    "activation_patching",
    "all_components",
    "causal_tracing",
    "check_metric",
    "gap",
    "joint_effect",
    "normalise",
]

Direction = Literal["restore", "break"]
Positions = Literal["all", "subject", "last"]

DIRECTIONS: dict[str, str] = {
    "restore": "a clean output in the corrupted run (denoising); effect = patched - corrupted",
    "break": "a corrupted output in the clean run (noising); effect = clean - patched",
}
POSITIONS: dict[str, str] = {
    "all": "every token",
    "subject": "the subject's tokens",
    "last": "the prompt's last token, which predicts the answer's first",
}
_STAGE = "Patching"


def activation_patching(
    model: LanguageModel,
    pairs: PromptPairs,
    *,
    metric: Metric = "log_p",
    direction: Direction = "restore",
    positions: Positions = "all",
    components: Sequence[Component] | None = None,
    progress: Progress | None = None,
) -> EffectMap:
    """Patch each component alone; effects are averaged over prompts, in the unit of `contrast_pairs.METRICS`.

    Each component and batch takes one forward pass, from the component's layer on. `normalise` turns the effects into
    shares of the gap between clean and corrupted run.

    Args:
        model: The model.
        pairs: Pairs of clean and corrupted prompts.
        metric: One of `contrast_pairs.METRICS`.
        direction: One of `DIRECTIONS`.
        positions: One of `POSITIONS`: where the output is replaced.
        components: Heads, MLP layers or neurons to measure; default: all heads and MLP layers.
        progress: Called with the share done.

    Raises:
        ConfigError: a setting is unknown, or there is no component.
        EditError: a component lies outside the model.
        MissingHookError: the model lacks a hook.
        UnsupportedArchitectureError: the model's attention is not made of heads.
    """
    check_metric(metric)
    _check(direction, DIRECTIONS, "direction")
    parts = all_components(model) if components is None else tuple(components)
    if not parts:
        raise ConfigError("There is no component to patch. Name at least one.")
    Circuit(shape=model.component_shape, components=parts)  # refuses components that the model does not have
    parts = tuple(sorted(parts))
    sums = np.zeros(len(parts))
    base_sum = donor_sum = 0.0
    for b, batch in enumerate(pairs.batches):
        base, donor = _runs(model, batch, metric, direction, parts)
        where_BP = _where(batch, positions)
        base_sum += float(base.score_B.double().sum())
        donor_sum += float(donor.score_B.double().sum())
        for i, part in enumerate(parts):
            patched_B = base.score(patch_hooks([part], donor.kept, where_BP), part.layer)
            sums[i] += float((patched_B - base.score_B).double().sum())
            if progress is not None:
                progress(_STAGE, (b + (i + 1) / len(parts)) / len(pairs.batches))
    sign = 1 if direction == "restore" else -1
    n_layers, n_heads, n_neurons = model.n_layers, model.n_heads, model.n_neurons
    grids = {"mlp": _empty(n_layers, 1), "head": _empty(n_layers, n_heads)}
    if any(part.kind == "neuron" for part in parts):
        grids["neuron"] = _empty(n_layers, n_neurons)
    for part, total in zip(parts, sums):
        grids[part.kind][part.layer, part.index] = sign * total / pairs.n_prompts
    ends = (donor_sum / pairs.n_prompts, base_sum / pairs.n_prompts)
    clean, corrupted = ends if direction == "restore" else ends[::-1]
    return EffectMap(
        shape=model.component_shape,
        mlps_L=grids["mlp"][:, 0],
        heads_LH=grids["head"],
        neurons_LN=grids.get("neuron"),
        method="activation patching" if pairs.corruption != "noise" else "causal tracing",
        concept=pairs.concept,
        unit=METRICS[metric],
        n_prompts=pairs.n_prompts,
        provenance=pairs.provenance
        | {"metric": metric, "direction": direction, "positions": positions, "clean": clean, "corrupted": corrupted},
    )


def causal_tracing(
    model: LanguageModel,
    pairs: PromptPairs,
    *,
    metric: Metric = "log_p",
    positions: Positions = "all",
    components: Sequence[Component] | None = None,
    progress: Progress | None = None,
) -> EffectMap:
    """Restore each component's clean output while the subject's embeddings are noisy (Meng et al. 2022).

    Meng et al. measure P(answer) and restore windows of ten layers at single tokens; this function restores one component
    at all tokens and measures `metric`. `tracing.trace_states` reproduces their figure by token.

    Raises:
        ConfigError: the pairs were not made with the corruption “noise”.
        And all errors of `activation_patching`.
    """
    if pairs.corruption != "noise":
        raise ConfigError(
            f"Causal tracing restores under noise, but these prompts were made with “{pairs.corruption}”. Make them with "
            "the corruption “noise”, or use activation patching."
        )
    return activation_patching(
        model, pairs, metric=metric, positions=positions, components=components, progress=progress
    )


def joint_effect(
    model: LanguageModel,
    pairs: PromptPairs,
    circuit: Circuit,
    *,
    metric: Metric = "log_p",
    direction: Direction = "restore",
    positions: Positions = "all",
) -> float:
    """Patch all components of a circuit at once and return the share of the clean-corrupted gap that this closes.

    1 = restoring them recovers the whole answer (or breaking them removes all of it), 0 = no effect.

    Raises:
        ConfigError: a setting is unknown, or the circuit is empty.
        ConceptError: the corruption does not weaken the answer.
    """
    check_metric(metric)
    _check(direction, DIRECTIONS, "direction")
    if not len(circuit):
        raise ConfigError("The circuit is empty. Choose at least one component.")
    first = min(part.layer for part in circuit.components)
    patched_sum = base_sum = donor_sum = 0.0
    for batch in pairs.batches:
        base, donor = _runs(model, batch, metric, direction, circuit.components)
        patched_B = base.score(patch_hooks(circuit.components, donor.kept, _where(batch, positions)), first)
        patched_sum += float(patched_B.double().sum())
        base_sum += float(base.score_B.double().sum())
        donor_sum += float(donor.score_B.double().sum())
    width = donor_sum - base_sum if direction == "restore" else base_sum - donor_sum
    gap(width / pairs.n_prompts, 0.0)
    return (patched_sum - base_sum) / (donor_sum - base_sum)


def normalise(effects: EffectMap) -> EffectMap:
    """Convert effects to shares of the gap between the clean and the corrupted run's mean scores.

    Raises:
        ConfigError: the map's provenance lacks the clean and corrupted scores.
        ConceptError: the corruption does not weaken the answer.
    """
    if not {"clean", "corrupted"} <= set(effects.provenance):
        raise ConfigError(f"{effects.method} does not say what its clean and corrupted runs scored.")
    width = gap(effects.provenance["clean"], effects.provenance["corrupted"])
    return replace(
        effects,
        mlps_L=effects.mlps_L / width,
        heads_LH=effects.heads_LH / width,
        neurons_LN=None if effects.neurons_LN is None else effects.neurons_LN / width,
        unit="share of the gap between clean and corrupted",
    )


def gap(clean: float, corrupted: float) -> float:
    """Return the drop of the mean score by the corruption, clean - corrupted.

    Raises:
        ConceptError: the score does not drop, so effects cannot be expressed as shares.
    """
    if not clean - corrupted > 1e-6:
        raise ConceptError(
            f"The corrupted prompts give the answer as well as the clean ones ({corrupted:.3g} against {clean:.3g}), so "
            "there is nothing to trace. Use facts the model knows, or another corruption."
        )
    return clean - corrupted


def all_components(model: LanguageModel) -> tuple[Component, ...]:
    """Every attention head and MLP layer, in order of layers."""
    heads = [Component(layer, "head", head) for layer in range(model.n_layers) for head in range(model.n_heads)]
    return tuple(sorted([*heads, *(Component(layer, "mlp") for layer in range(model.n_layers))]))


def check_metric(metric: str) -> None:
    """Raise `ConfigError` for a metric that is not in `contrast_pairs.METRICS`."""
    _check(metric, METRICS, "metric")


def _runs(
    model: LanguageModel, batch: PairBatch, metric: Metric, direction: Direction, parts: Sequence[Component]
) -> tuple[Run, Run]:
    """Return the run to be patched and the donor run, whose activations are patched in."""
    names = [site(part) for part in parts]
    base = Run(model, batch, metric, corrupted=direction == "restore")
    donor = Run(model, batch, metric, corrupted=direction == "break", keep=names)
    for name in names:
        if name.endswith("hook_z"):
            require_heads(model, donor.kept[name])
    return base, donor


def _where(batch: PairBatch, positions: Positions) -> Bool[Tensor, "B P"]:
    _check(positions, POSITIONS, "choice of positions")
    if positions == "subject":
        return batch.subject_BP
    if positions == "all":
        return torch.ones_like(batch.subject_BP)
    columns = torch.arange(batch.clean_BP.shape[1], device=batch.clean_BP.device)
    return columns[None] == batch.last_B[:, None]


def _check(value: str, known: dict[str, str], what: str) -> None:
    if value not in known:
        raise ConfigError(f"“{value}” is no {what}. Use {', '.join(known)}.")


def _empty(*shape: int) -> np.ndarray:
    return np.full(shape, np.nan)
