"""Prunes, mean-ablates or reverses chosen neurons, heads and MLP layers by writing their weights.

Prune with `zero` sets all weights of a component to zero; with `mean` it also adds the component's mean contribution to
the output bias, so that only its *variation* is removed (mean ablation). Reverse negates what a component writes to the
residual stream. A whole MLP layer is all of its neurons.

Axes: `L` layer, `N` neuron in a layer, `H` attention head, `Z` dimension of a head (d_head), `W` chosen neuron,
`K` chosen head.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from analysis.components.circuit import Circuit, Component, Shape
from analysis.components.neurons import NeuronSet
from analysis.components.sites import HEADS, MLP, Site
from analysis.edits.components.selection import Control, Selection
from analysis.edits.edit import Change, Edit, Materials
from analysis.errors import ConfigError
from analysis.models import LanguageModel
from analysis.saliency import MOMENT_METHODS, from_moments, measure
from analysis.saliency.carriers import CARRIER_SHARE
from analysis.saliency.moments import stream_moments
from analysis.scoring.batches import label_concepts
from analysis.training.slices import Group, Head, Slice, check_shape, groups

__all__ = ["ComponentEdit", "ComponentSettings", "PlannedEdit", "plan_components"]


@dataclass(frozen=True, kw_only=True)
class ComponentEdit(Edit):
    """Prunes or reverses the components of a selection."""

    kind: Literal["prune", "reverse"] = "prune"
    fill: Literal["zero", "mean"] = "zero"
    """What replaces a pruned component's activation; unused by reverse."""
    hold: bool = True
    """Keep pruned weights fixed through later training. Off: only the output vectors are zeroed and may grow back
    (a gated neuron with all weights at zero gets no gradient, so it could not)."""
    selection: Selection = field(default_factory=Selection)

    @property
    def method(self) -> str:
        if self.kind == "prune":
            return "mean_ablate" if self.fill == "mean" else "prune"
        return self.kind

    def describe(self) -> str:
        """One phrase for captions: `prune (zero, held): top 1.00% by probeless`."""
        if self.kind == "reverse":
            return f"reverse: {self.selection.describe()}"
        return f"prune ({self.fill}, {'held' if self.hold else 'free to regrow'}): {self.selection.describe()}"

    @classmethod
    def from_fields(cls, data: Mapping[str, Any]) -> "ComponentEdit":
        """Rebuild from the fields of `to_dict`.

        Raises:
            ConfigError: a field is missing, unknown or out of range.
        """
        try:
            return cls(**{**data, "selection": Selection.from_dict(data["selection"])})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"This is not an edit ({error}).") from error


@dataclass(frozen=True, kw_only=True)
class ComponentSettings:
    """The settings of a component edit, one by one."""

    top_fraction: float | None = None
    """The most salient share of all neurons (0.01 = 1%); 0.01 if no rule is given."""
    top_k: int | None = None
    """The k most salient neurons."""
    threshold: float | None = None
    """Every neuron with at least this score."""
    components: str | None = None
    """A list such as L5.N123, L7.H3, L9.MLP."""
    ranked_by: str = "probeless"
    """Saliency method that ranks the neurons."""
    pick: Control = "none"
    """none, or a random control of the same size: random, layer_matched."""
    seed: int = 0
    """Seed of a random control."""
    hold: bool = True
    """Keep pruned weights fixed through later training."""

    def edit(self, method: str) -> ComponentEdit:
        """The edit for `prune`, `mean_ablate` or `reverse`.

        Raises:
            ConfigError: more than one rule is given, or a value is out of range.
        """
        rules = ("top_fraction", "top_k", "threshold", "components")
        given = [rule for rule in rules if getattr(self, rule) is not None]
        if len(given) > 1:
            raise ConfigError(f"Give one of {', '.join(rules)}, not {' and '.join(given)}.")
        rule = given[0] if given else "top_fraction"
        value = next((one for one in (self.top_fraction, self.top_k, self.threshold) if one is not None), CARRIER_SHARE)
        selection = Selection(
            rule="explicit" if rule == "components" else rule,  # type: ignore[arg-type]
            value=0.0 if rule == "components" else float(value),
            components=self.components or "",
            method=self.ranked_by,
            control=self.pick,
            seed=self.seed,
        )
        return ComponentEdit(
            kind="reverse" if method == "reverse" else "prune",
            fill="mean" if method == "mean_ablate" else "zero",
            hold=self.hold,
            selection=selection,
        )


@dataclass(frozen=True, kw_only=True)
class PlannedEdit(Change[ComponentEdit]):
    """A component edit with its chosen components and the means that replace their activations.

    Neurons are kept as one array: a selection may have tens of thousands of them.
    """

    edit: ComponentEdit
    shape: Shape
    """Shape of the model it was planned for."""
    neurons: NeuronSet
    """All chosen neurons, including those of whole MLP layers."""
    heads: tuple[Head, ...] = ()
    """(layer, head), in ascending order."""
    means_LN: np.ndarray | None = None
    """Mean activation of every neuron; only for `fill="mean"`."""
    head_means_LHZ: np.ndarray | None = None
    """Mean output of every head before the output projection; only for `fill="mean"` with heads."""

    @property
    def circuit(self) -> Circuit:
        """The chosen components; a layer whose neurons are all chosen is listed as its MLP layer."""
        width = self.shape.n_neurons
        counts = self.neurons.counts().tolist()
        mlps = [Component(layer, "mlp") for layer, count in enumerate(counts) if count == width]
        heads = [Component(layer, "head", head) for layer, head in self.heads]
        single = [Component(n.layer, "neuron", n.index) for n in self.neurons if counts[n.layer] < width]
        return Circuit(shape=self.shape, components=(*mlps, *heads, *single), method=self.edit.selection.describe())

    @property
    def head_counts(self) -> np.ndarray:
        """Number of chosen heads in each layer, shape [L]."""
        return np.bincount([layer for layer, _ in self.heads], minlength=self.shape.n_layers)

    def means(self, site: Site, layer: int, chosen: np.ndarray) -> np.ndarray | None:
        """What replaces the activations of the chosen neurons, [W], or heads, [K, Z], of a layer; None is zero."""
        means = self.means_LN if site is MLP else self.head_means_LHZ
        return None if means is None else means[layer, chosen]

    def extent(self) -> str:
        """How much of the model it touches: `461 of 46,080 neurons and 2 of 270 attention heads`."""
        n_layers = self.shape.n_layers
        parts = (
            (len(self.neurons), n_layers * self.shape.n_neurons, "neurons"),
            (len(self.heads), n_layers * self.shape.n_heads, "attention heads"),
        )
        return " and ".join(f"{count:,} of {total:,} {name}" for count, total, name in parts if count)

    def marked(self, shape: Shape) -> tuple[NeuronSet, tuple[Head, ...]]:
        return self.neurons, self.heads

    @property
    def held(self) -> bool:
        return self.edit.kind == "prune" and self.edit.hold

    def slices(self, model: LanguageModel) -> tuple[Slice, ...]:
        return tuple(piece for group in self._groups(model) for piece in group.slices(output_only=not self.held))

    def biased(self, model: LanguageModel) -> tuple[nn.Module, ...]:
        return tuple(linear for linear, _ in self._mean_outputs(self._groups(model)))

    def write(self, model: LanguageModel) -> None:
        touched = self._groups(model)
        with model.lock, torch.no_grad():
            for linear, output_D in list(self._mean_outputs(touched)):
                _add_to_bias(linear, output_D)
            for group in touched:
                for piece in group.slices(output_only=not self.held):
                    values = piece.read()
                    piece.write(-values if self.edit.kind == "reverse" else torch.zeros_like(values))

    def _groups(self, model: LanguageModel) -> tuple[Group, ...]:
        check_shape(model, self.shape)
        return tuple(groups(model, self.neurons, self.heads))

    def _mean_outputs(self, touched: tuple[Group, ...]) -> Iterator[tuple[nn.Module, Tensor]]:
        """Yield, for every group of a mean ablation, the module whose bias is changed and the mean output to add, [D]."""
        for group in touched:
            means = self.means(group.site, group.layer, group.chosen)
            if means is None:
                continue
            out = group.weights[-1]
            vectors_WD = out.parameter.detach().index_select(out.axis, group.indices)
            vectors_WD = vectors_WD if out.axis == 0 else vectors_WD.T
            means_W = torch.tensor(means.reshape(-1), dtype=vectors_WD.dtype, device=vectors_WD.device)
            yield group.output, means_W @ vectors_WD


def plan_components(edit: ComponentEdit, model: LanguageModel, materials: Materials) -> PlannedEdit:
    """Choose the components of `edit` by saliency, and measure the means for a mean ablation.

    Probeless and d' are computed from the concept's moments. Any other method is measured here, which may take minutes,
    unless the materials hold its scores.

    Raises:
        ConceptError: the selection's method cannot measure this concept.
        EditError: the selection is empty or does not fit the model.
    """
    selection, concept, scores = edit.selection, materials.concept, materials.scores
    needs_means = edit.kind == "prune" and edit.fill == "mean"
    ranks_by_moments = selection.rule != "explicit" and selection.method in MOMENT_METHODS
    moments = materials.moments_on(model) if needs_means or ranks_by_moments else None
    if selection.rule == "explicit":
        scores = None
    elif moments is not None and ranks_by_moments:
        scores = from_moments(moments, concept.name, selection.method)
    elif scores is None or scores.method != selection.method:
        (scores,) = measure(model, [concept], methods=[selection.method])
    neurons, heads = selection.select(scores, model.component_shape)
    head_means_LHZ = None
    if needs_means and heads:
        means_LN = stream_moments(model, label_concepts(model, [concept]), HEADS).overall_mean(concept.name)
        head_means_LHZ = means_LN.reshape(model.n_layers, model.n_heads, model.d_head)
    return PlannedEdit(
        edit=edit,
        shape=model.component_shape,
        neurons=neurons,
        heads=heads,
        means_LN=moments.overall_mean(concept.name) if needs_means and moments is not None else None,
        head_means_LHZ=head_means_LHZ,
    )


def _add_to_bias(linear: nn.Module, output_D: Tensor) -> None:
    if linear.bias is None:
        linear.bias = nn.Parameter(output_D, requires_grad=False)
    else:
        linear.bias.add_(output_D)  # type: ignore[operator]
