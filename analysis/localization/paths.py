"""Patches single paths: measures a component's effect along one path while everything off the path is held fixed.

The method is that of Wang et al. 2022 (appendix B). Guo et al. 2024 use it to find where facts are looked up: first heads
that write the answer ("extraction heads"), then MLP layers whose output those heads read. Everything off the path keeps
its value of the *base* run; the sender's output comes from the *donor* run. With `break` the clean run is the base (the
paper of Wang et al.), with `restore` the corrupted one (the released code of Guo et al.). Effects are shares:
(patched - base) / (donor - base), over mean scores; 1 = the path carries the whole effect.

Axes: `L` layer, `H` attention head, `B` batch, `P` position, `D` d_model.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.components.circuit import Circuit, Component, EffectMap
from analysis.errors import ConfigError, UnsupportedArchitectureError
from analysis.localization.forward import Run, patch_hooks, require_heads
from analysis.localization.patching import DIRECTIONS, Direction, check_metric, gap
from analysis.models import LanguageModel
from analysis.progress import Progress
from analysis.scoring.contrast_pairs import Metric, PairBatch, PromptPairs

__all__ = ["RECEIVERS", "UNIT", "Receivers", "direct_effects", "path_effects"]

Receivers = Literal["heads", "stream"]

RECEIVERS: dict[str, str] = {
    "heads": "only the inputs of the given heads; their outputs alone go on into a free run (Wang et al. 2022)",
    "stream": "the residual stream before the first of the given heads' layers, free from there on (Guo et al.'s code)",
}
UNIT = "share of the gap between clean and corrupted"


def direct_effects(
    model: LanguageModel,
    pairs: PromptPairs,
    *,
    metric: Metric = "logit_difference",
    direction: Direction = "break",
    progress: Progress | None = None,
) -> EffectMap:
    """Measure each head's direct effect on the output by replacing its contribution to the final residual stream.

    No later component sees the replacement; only the final norm and the unembedding are recomputed, with everything else
    in the stream at its base value.

    Raises:
        ConfigError: a setting is unknown.
        ConceptError: the corruption does not weaken the answer.
        MissingHookError: the model lacks a hook.
        UnsupportedArchitectureError: the residual stream is not a plain sum of what heads and MLPs write.
    """
    _check(metric, direction)
    z_names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.n_layers)]
    final = f"blocks.{model.n_layers - 1}.hook_resid_post"
    first = [f"blocks.0.{hook}" for hook in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post")]
    totals = _Totals()
    sums_LH = np.zeros((model.n_layers, model.n_heads))
    for b, batch in enumerate(pairs.batches):
        base = Run(model, batch, metric, corrupted=direction == "restore", keep=[*z_names, *first, final])
        donor = Run(model, batch, metric, corrupted=direction == "break", keep=z_names)
        require_heads(model, base.kept[z_names[0]])
        _check_sum(model, base)
        totals.add(base, donor)
        for layer, name in enumerate(z_names):
            written_BPD = _attention_output(model, layer, base.kept[name])
            residuals = []
            for head in range(model.n_heads):
                z_BPHD = base.kept[name].clone()
                z_BPHD[:, :, head] = donor.kept[name][:, :, head]
                residuals.append(base.kept[final] + _attention_output(model, layer, z_BPHD) - written_BPD)
            sums_LH[layer] += (base.scores_of(residuals) - base.score_B).double().sum(1).cpu().numpy()
            if progress is not None:
                progress("Direct effects", (b + (layer + 1) / model.n_layers) / len(pairs.batches))
    ends = totals.means(pairs, direction)
    return EffectMap(
        shape=model.component_shape,
        mlps_L=np.full(model.n_layers, np.nan),
        heads_LH=sums_LH / totals.width(),
        method="path patching, heads to output",
        concept=pairs.concept,
        unit=UNIT,
        n_prompts=pairs.n_prompts,
        provenance=pairs.provenance | {"metric": metric, "direction": direction} | ends,
    )


def path_effects(
    model: LanguageModel,
    pairs: PromptPairs,
    heads: Sequence[tuple[int, int]],
    *,
    metric: Metric = "logit_difference",
    direction: Direction = "break",
    receivers: Receivers = "heads",
    progress: Progress | None = None,
) -> EffectMap:
    """Measure the effect of each MLP layer on the output through the given heads, (layer, head) each.

    With receivers “heads”, the input of every given head's layer is the base run's residual stream plus the change of the
    sender's output, so nothing between sender and head reacts, and no given head reacts to another. The head outputs (z)
    computed from these inputs then replace those of the given heads in an otherwise unchanged base run, in which
    everything after them reacts. With “stream”, the change of the sender's output is added to the residual stream before
    the first given head's layer, and everything from there on reacts.

    MLP layers with no given head after them have no such path: NaN.

    Raises:
        ConfigError: there is no head, or a setting is unknown.
        EditError: a head lies outside the model.
        ConceptError: the corruption does not weaken the answer.
        MissingHookError: the model lacks a hook.
        UnsupportedArchitectureError: the model has one layer, the heads all lie in the first, or the residual stream is
            not a plain sum of what heads and MLPs write.
    """
    _check(metric, direction)
    if receivers not in RECEIVERS:
        raise ConfigError(f"“{receivers}” is no choice of receivers. Use {', '.join(RECEIVERS)}.")
    parts = tuple(Component(layer, "head", head) for layer, head in sorted(set(heads)))
    if not parts:
        raise ConfigError("There is no head that an MLP layer could write to. Give at least one.")
    Circuit(shape=model.component_shape, components=parts)  # refuses heads that the model does not have
    layers = sorted({part.layer for part in parts})
    senders = list(range(layers[0] if receivers == "stream" else layers[-1]))
    if not senders:
        raise UnsupportedArchitectureError(
            f"No MLP layer of “{model.name}” lies before the heads ({', '.join(map(str, parts))}), so none can write to "
            "them. Use more heads, or a model with more layers."
        )
    sums = np.full(model.n_layers, np.nan)
    sums[senders] = 0.0
    totals = _Totals()
    outputs = [f"blocks.{layer}.hook_mlp_out" for layer in senders]
    entries = [
        f"blocks.{layer}.ln1.hook_in" if receivers == "heads" else f"blocks.{layer}.hook_resid_pre" for layer in layers
    ]
    first = [f"blocks.0.{hook}" for hook in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post")]
    for b, batch in enumerate(pairs.batches):
        base = Run(model, batch, metric, corrupted=direction == "restore", keep=[*outputs, *entries, *first])
        donor = Run(model, batch, metric, corrupted=direction == "break", keep=outputs)
        _check_sum(model, base)
        totals.add(base, donor)
        for sender, output in zip(senders, outputs):
            change_BPD = donor.kept[output] - base.kept[output]
            if receivers == "stream":
                patched_B = base.score([_setter(entries[0], base.kept[entries[0]] + change_BPD)], layers[0])
            else:
                patched_B = _through_heads(base, batch, [p for p in parts if p.layer > sender], change_BPD)
            sums[sender] += float((patched_B - base.score_B).double().sum())
            if progress is not None:
                progress("Paths through heads", (b + (sender + 1) / len(senders)) / len(pairs.batches))
    ends = totals.means(pairs, direction)
    return EffectMap(
        shape=model.component_shape,
        mlps_L=sums / totals.width(),
        heads_LH=np.full((model.n_layers, model.n_heads), np.nan),
        method="path patching, MLPs to heads",
        concept=pairs.concept,
        unit=UNIT,
        n_prompts=pairs.n_prompts,
        provenance=pairs.provenance
        | {"metric": metric, "direction": direction, "receivers": receivers, "heads": [str(part) for part in parts]}
        | ends,
    )


class _Totals:
    """Sums of the base and donor scores over batches."""

    def __init__(self) -> None:
        self.base = self.donor = 0.0

    def add(self, base: Run, donor: Run) -> None:
        self.base += float(base.score_B.double().sum())
        self.donor += float(donor.score_B.double().sum())

    def width(self) -> float:
        """donor - base; in both directions, shares of it are positive for components that support the answer."""
        return self.donor - self.base

    def means(self, pairs: PromptPairs, direction: Direction) -> dict[str, Any]:
        ends = (self.base / pairs.n_prompts, self.donor / pairs.n_prompts)
        clean, corrupted = ends if direction == "break" else ends[::-1]
        gap(clean, corrupted)
        return {"clean": clean, "corrupted": corrupted}


def _through_heads(
    base: Run, batch: PairBatch, heads: Sequence[Component], change_BPD: Float[Tensor, "B P D"]
) -> Float[Tensor, " B"]:
    """Scores of the base run with these heads' outputs recomputed after adding `change_BPD` to their inputs."""
    layers = sorted({head.layer for head in heads})
    inputs = [f"blocks.{layer}.ln1.hook_in" for layer in layers]
    # the inputs are set, not shifted, so that changed outputs of earlier ones of these layers have no effect
    setters = [_setter(name, base.kept[name] + change_BPD) for name in inputs]
    z = base.record(setters, [f"blocks.{layer}.attn.hook_z" for layer in layers], layers[0], layers[-1])
    everywhere_BP = torch.ones_like(batch.subject_BP)
    return base.score(patch_hooks(heads, z, everywhere_BP), layers[0])


def _setter(name: str, value: Tensor) -> tuple[str, Any]:
    return name, lambda activation, hook: value


def _attention_output(model: LanguageModel, layer: int, z_BPHD: Tensor) -> Float[Tensor, "B P D"]:
    """The output of a layer's attention to the residual stream, computed from its heads' outputs."""
    with torch.inference_mode():
        return model.blocks[layer].attention_writes(z_BPHD)


def _check_sum(model: LanguageModel, run: Run) -> None:
    """Check that the residual stream is the sum of what attention and MLPs write, and that the logits are read from it."""
    pre, attention, mlp, post = (
        run.kept[f"blocks.0.{hook}"] for hook in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post")
    )
    noise = (1e-3 if model.dtype == "float32" else 5e-2) * float(post.float().std())
    if not run.resumes or float((pre + attention + mlp - post).abs().float().max()) > noise:
        raise UnsupportedArchitectureError(
            f"The residual stream of “{model.name}” is not a plain sum of what attention and MLPs write, so single paths "
            "cannot be cut. Use activation patching."
        )


def _check(metric: str, direction: str) -> None:
    check_metric(metric)
    if direction not in DIRECTIONS:
        raise ConfigError(f"“{direction}” is no direction. Use {', '.join(DIRECTIONS)}.")
