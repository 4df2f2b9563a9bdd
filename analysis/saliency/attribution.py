"""Computes each unit's effect on log P(answer): estimated by gradients, or measured exactly by ablation.

All effects are in nats of log P(answer), positive = the unit supports the answer:

- gradient × activation: first-order estimate of the loss when the unit is set to zero;
- integrated gradients (Sundararajan et al. 2017) of a layer's activations, along the straight path from a baseline to
  their values; over all units of a layer they add up to log P(answer) - log P(answer with the layer at the baseline);
- attribution patching (Nanda 2023; Syed et al. 2023): first-order estimate of the gain when the clean value is restored
  in a corrupted run; with `steps` the gradient is averaged between the two runs (Hanna et al. 2024);
- ablation: exact loss when the unit is set to zero, by running the model.

Axes: `L` layer, `N` unit, `H` head, `B` batch, `P` position, `D` d_model.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from analysis.components.circuit import EffectMap
from analysis.components.sites import HEADS, MLP, RESIDUAL, Site
from analysis.errors import ConfigError
from analysis.models import LanguageModel
from analysis.models.language_model import EMBEDDING_HOOK
from analysis.progress import ShareDone
from analysis.saliency.effects import Effects, EffectSums
from analysis.scoring.contrast_pairs import (
    METRICS,
    AnswerBatch,
    Metric,
    PairBatch,
    PromptPairs,
    answer_log_p,
    score,
)

__all__ = ["Effects", "ablation", "attribution_patching", "gradient_x_activation", "integrated_gradients"]


def gradient_x_activation(model: LanguageModel, batches: Sequence[AnswerBatch], site: Site = MLP) -> Effects:
    """Sum activation × gradient of log P(answer) over positions, per example, for every layer in one backward pass."""
    sums = EffectSums(model, site, [batch.facts for batch in batches])
    for batch in batches:
        with model.lock, torch.enable_grad(), _captured(model, [site]) as kept:
            value = answer_log_p(model.logits(batch.tokens_BP), batch.tokens_BP, batch.answer_BP)
            activations = kept[site.name]
            gradients = torch.autograd.grad(value.sum(), activations)
        for layer, (activation, gradient) in enumerate(zip(activations, gradients)):
            sums.add(layer, activation.detach() * gradient)
        sums.finish_batch()
    return sums.effects()


def integrated_gradients(
    model: LanguageModel,
    batches: Sequence[AnswerBatch],
    site: Site = MLP,
    *,
    steps: int = 16,
    baseline: Literal["zero", "mean"] | None = None,
    progress: ShareDone | None = None,
) -> Effects:
    """Integrated gradients of each layer's activations by Gauss-Legendre quadrature with `steps` nodes.

    Each layer has its own path (the layers below keep their values), which takes `steps` passes. The path begins at zero
    or at the mean activation over all positions of the examples; by default at the mean for the residual stream, whose
    norm is singular at zero, and at zero elsewhere.

    Raises:
        ConfigError: `steps` is below 1, or the baseline is unknown.
    """
    _check_steps(steps)
    baseline = baseline or ("mean" if site == RESIDUAL else "zero")
    if baseline not in ("zero", "mean"):
        raise ConfigError(f"“{baseline}” is no baseline. Use zero or mean.")
    means = _means(model, batches, site) if baseline == "mean" else [torch.zeros(())] * model.n_layers
    sums = EffectSums(model, site, [batch.facts for batch in batches])
    missed, total = np.zeros(model.n_layers), np.zeros(model.n_layers)
    for n, batch in enumerate(batches):

        def log_p(batch: AnswerBatch = batch) -> Tensor:
            return answer_log_p(model.logits(batch.tokens_BP), batch.tokens_BP, batch.answer_BP)

        with model.lock, torch.no_grad(), _captured(model, [site]) as kept:
            full_B = log_p()
            activations = kept[site.name]
        for layer in range(model.n_layers):
            end = activations[layer]
            start = means[layer].to(end).expand_as(end)
            gradient = torch.zeros_like(end)
            for k, (node, weight) in enumerate(_quadrature(steps)):
                point = (start + node * (end - start)).requires_grad_(True)
                with torch.enable_grad(), _replaced(model, site.hook(layer), point):
                    gradient += weight * torch.autograd.grad(log_p().sum(), point)[0]
                if progress:
                    progress((n + (layer + (k + 1) / (steps + 1)) / model.n_layers) / len(batches))
            effect = (end - start) * gradient
            sums.add(layer, effect)
            with torch.no_grad(), _replaced(model, site.hook(layer), start.contiguous()):
                difference = float((full_B - log_p()).sum())
            missed[layer] += float(effect.sum()) - difference
            total[layer] += difference
            if progress:
                progress((n + (layer + 1) / model.n_layers) / len(batches))
        sums.finish_batch()
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums.effects(completeness_L=np.abs(missed) / np.abs(total))


def attribution_patching(
    model: LanguageModel,
    pairs: PromptPairs,
    *,
    metric: Metric = "log_p",
    at: Literal["corrupted", "clean"] = "corrupted",
    steps: int = 1,
) -> EffectMap:
    """Estimate the effect of every head, MLP layer and neuron on the metric.

    Args:
        model: The model.
        pairs: Clean and corrupted prompts.
        metric: One of `contrast_pairs.METRICS`.
        at: Run in which the gradient is taken: "corrupted" estimates the gain when the clean value is restored, "clean"
            the loss when it is corrupted.
        steps: 1 = the gradient in that run; more = its mean over that many points between the two runs, with
            interpolated embeddings.

    Raises:
        ConfigError: an argument is out of range.
    """
    effects = patching_effects(model, pairs, [MLP, HEADS], metric=metric, at=at, steps=steps)
    neurons = effects[MLP.name].mean_LN
    return EffectMap(
        shape=model.component_shape,
        mlps_L=neurons.sum(1),
        heads_LH=effects[HEADS.name].mean_LN,
        neurons_LN=neurons,
        method="attribution patching",
        concept=pairs.concept,
        unit=METRICS[metric],
        n_prompts=pairs.n_prompts,
        provenance=pairs.provenance | {"metric": metric, "at": at, "steps": steps},
    )


def patching_effects(
    model: LanguageModel,
    pairs: PromptPairs,
    sites: Sequence[Site],
    *,
    metric: Metric = "log_p",
    at: Literal["corrupted", "clean"] = "corrupted",
    steps: int = 1,
) -> dict[str, Effects]:
    """Attribution patching at any site. Returns name of the site -> effects of its units, with standard errors."""
    _check_steps(steps)
    if at not in ("corrupted", "clean"):
        raise ConfigError(f"“{at}” is no place for the gradient. Use corrupted or clean.")
    facts = [batch.facts for batch in pairs.batches]
    sums = {site.name: EffectSums(model, site, facts) for site in sites}
    for batch in pairs.batches:
        with model.lock:
            clean, corrupted = _both_runs(model, batch, sites)
            gradients = _mean_gradients(model, batch, sites, metric, at, steps)
        for name, one in sums.items():
            for layer in range(model.n_layers):
                one.add(layer, (clean[name][layer] - corrupted[name][layer]) * gradients[name][layer])
            one.finish_batch()
    return {name: one.effects() for name, one in sums.items()}


def ablation(
    model: LanguageModel,
    batches: Sequence[AnswerBatch],
    units: Sequence[tuple[int, int]],
    site: Site = MLP,
    *,
    progress: ShareDone | None = None,
) -> Effects:
    """Exact effect of the named (layer, unit) pairs: log P(answer) minus its value with the unit set to zero.

    Each unit takes one pass, so the list should be short; a unit named twice counts once.

    Raises:
        ConfigError: the list is empty, or names a unit that the model does not have.
    """
    if not units:
        raise ConfigError("No unit is named. Ablation runs the model once for each unit: give a list.")
    units = list(dict.fromkeys(units))
    sums = EffectSums(model, site, [batch.facts for batch in batches], measured=False)
    layers, per_layer = sums.measured_LN.shape
    for layer, unit in units:
        if not (0 <= layer < layers and 0 <= unit < per_layer):
            raise ConfigError(
                f"{site.label(layer, unit)} lies outside the model: layers are 0 to {layers - 1}, {site.plural} 0 to "
                f"{per_layer - 1}."
            )
    width = model.d_head if site == HEADS else 1
    for n, batch in enumerate(batches):
        with model.lock, torch.no_grad():
            whole_B = answer_log_p(model.logits(batch.tokens_BP), batch.tokens_BP, batch.answer_BP)
            for i, (layer, unit) in enumerate(units):
                with model.hooks([(site.hook(layer), _silence(slice(unit * width, (unit + 1) * width)))]):
                    broken_B = answer_log_p(model.logits(batch.tokens_BP), batch.tokens_BP, batch.answer_BP)
                sums.add_one(layer, unit, whole_B - broken_B)
                if progress:
                    progress((n + (i + 1) / len(units)) / len(batches))
        sums.finish_batch()
    return sums.effects()


def _means(model: LanguageModel, batches: Sequence[AnswerBatch], site: Site) -> list[Tensor]:
    """Mean activation of every layer over all positions up to the answers' ends."""
    sums: list[Tensor] = []
    count = 0
    for batch in batches:
        real_BP = batch.answer_BP.flip(1).cumsum(1).flip(1) > 0
        with model.lock, torch.no_grad(), _captured(model, [site]) as kept:
            model.residual(batch.tokens_BP)
        totals = [activation[real_BP].sum(0) for activation in kept[site.name]]
        sums = totals if not sums else [a + b for a, b in zip(sums, totals)]
        count += int(real_BP.sum())
    return [total / count for total in sums]


@contextmanager
def _captured(model: LanguageModel, sites: Sequence[Site]) -> Iterator[dict[str, list[Tensor]]]:
    """Keep the activations at `sites` of all layers of the pass inside the block, for gradients with respect to them."""
    kept: dict[str, list[Tensor]] = {site.name: [] for site in sites}

    def keep(name: str):
        def hook(activation: Tensor, hook: object) -> Tensor:
            if torch.is_grad_enabled() and not activation.requires_grad:
                activation = activation.requires_grad_(True)
            kept[name].append(activation)
            return activation  # returned, so that later computation uses this very tensor

        return hook

    functions = [(site.hook(layer), keep(site.name)) for site in sites for layer in range(model.n_layers)]
    with model.hooks(functions):
        yield kept


@contextmanager
def _replaced(model: LanguageModel, name: str, value: Tensor) -> Iterator[None]:
    """Replace the activation at one hook by `value` inside the block."""
    with model.hooks([(name, lambda activation, hook: value)]):
        yield


def _silence(units: slice) -> Callable:
    def hook(activation: Tensor, hook: object) -> Tensor:
        changed = activation.flatten(2).clone()
        changed[..., units] = 0
        return changed.reshape(activation.shape)

    return hook


def _both_runs(
    model: LanguageModel, batch: PairBatch, sites: Sequence[Site]
) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
    """Activations of the clean and of the corrupted run."""
    with torch.no_grad():
        with _captured(model, sites) as clean:
            model.residual(batch.clean_BP)
        with model.hooks(batch.corruption_hooks()), _captured(model, sites) as corrupted:
            model.residual(batch.corrupted_BP)
    return clean, corrupted


def _mean_gradients(
    model: LanguageModel, batch: PairBatch, sites: Sequence[Site], metric: Metric, at: str, steps: int
) -> dict[str, list[Tensor]]:
    """Gradients of the metric with respect to the activations, at one end or averaged between the runs."""
    clean, corrupted = model.embed_at_hook(batch.clean_BP), model.embed_at_hook(batch.corrupted_BP)
    if batch.noise_BPD is not None:
        corrupted = corrupted + batch.noise_BPD.to(corrupted.dtype)
    nodes = list(_quadrature(steps)) if steps > 1 else [(float(at == "clean"), 1.0)]
    total: dict[str, list[Tensor]] = {}
    for node, weight in nodes:
        point = corrupted + node * (clean - corrupted)
        with torch.enable_grad(), _replaced(model, EMBEDDING_HOOK, point), _captured(model, sites) as kept:
            value = score(model.logits(batch.clean_BP), batch, metric).sum()
            flat = [activation for site in sites for activation in kept[site.name]]
            gradients = iter(torch.autograd.grad(value, flat))
        for site in sites:
            weighted = [weight * next(gradients) for _ in range(model.n_layers)]
            before = total.get(site.name)
            total[site.name] = weighted if before is None else [a + b for a, b in zip(before, weighted)]
    return total


def _quadrature(steps: int) -> Iterator[tuple[float, float]]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    yield from zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist())


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"steps is {steps}; it must be at least 1.")
