"""The weights that belong to components: which rows or columns of which parameters.

A neuron owns one row or column of each matrix of its MLP; an attention head owns as many as `d_head`. A whole MLP
layer is all of its neurons and, when it is trained, its output bias. What several components share (norms, the output
bias of an attention layer, keys and values under grouped-query attention) belongs to none of them.

Axes: `W` chosen rows or columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from analysis.components.circuit import Circuit, Shape
from analysis.components.neurons import NeuronSet
from analysis.components.sites import HEADS, MLP, Site
from analysis.errors import EditError
from analysis.models import HeadWeight, LanguageModel, NeuronWeight

__all__ = ["Group", "Head", "Slice", "by_layer", "check_shape", "circuit_slices", "groups", "n_parameters"]

Head = tuple[int, int]
"""(layer, head)."""


@dataclass(frozen=True)
class Slice:
    """Some rows or columns of one parameter."""

    parameter: nn.Parameter
    axis: int
    indices: Tensor
    """int64, [W], ascending and without repetition."""

    @property
    def numel(self) -> int:
        """Number of single weights."""
        return self.parameter.numel() // self.parameter.shape[self.axis] * len(self.indices)

    @property
    def is_whole(self) -> bool:
        """Whether it covers its parameter."""
        return len(self.indices) == self.parameter.shape[self.axis]

    def read(self) -> Tensor:
        """A copy of the weights."""
        return self.parameter.detach().index_select(self.axis, self.indices)

    def write(self, values: Tensor) -> None:
        """Replace the weights under `torch.no_grad`; everything else in the parameter keeps its bits."""
        self.parameter.index_copy_(self.axis, self.indices, values)

    def without(self, others: Sequence["Slice"]) -> "Slice":
        """What is left of it when the rows or columns of `others` are taken away."""
        taken = [other.indices for other in others if other.parameter is self.parameter]
        if not taken:
            return self
        return Slice(self.parameter, self.axis, self.indices[~torch.isin(self.indices, torch.cat(taken))])


@dataclass(frozen=True)
class Group:
    """The chosen neurons, or the chosen heads, of one layer."""

    site: Site
    layer: int
    chosen: np.ndarray
    """Which neurons or heads, ascending."""
    weights: Sequence[NeuronWeight | HeadWeight]
    """The parameters that hold a slice of each; the one that writes to the residual stream is the last."""
    output: nn.Module
    """The module that the last weight belongs to."""
    indices: Tensor
    """Which rows or columns of each weight, int64, [W]."""

    def slices(self, *, output_only: bool = False) -> Iterator[Slice]:
        """The slice of every weight, or of the last one alone."""
        for weight in self.weights[-1:] if output_only else self.weights:
            yield Slice(weight.parameter, weight.axis, self.indices)


def by_layer(neurons: NeuronSet, heads: Sequence[Head]) -> Iterator[tuple[Site, int, np.ndarray]]:
    """(site, layer, indices) of the chosen neurons of every layer that has any, then of the heads."""
    for layer, chosen in neurons.by_layer().items():
        yield MLP, layer, chosen
    for layer in sorted({layer for layer, _ in heads}):
        yield HEADS, layer, np.array(sorted(head for at, head in heads if at == layer))


def groups(model: LanguageModel, neurons: NeuronSet, heads: Sequence[Head]) -> Iterator[Group]:
    """The weights of the chosen neurons of every layer, then of the chosen heads.

    Raises:
        UnsupportedArchitectureError: heads are chosen, and the model's attention is not made of heads.
    """
    for site, layer, chosen in by_layer(neurons, heads):
        indices = torch.tensor(chosen, device=model.device)
        if site is MLP:
            yield Group(site, layer, chosen, model.neuron_weights(layer), model.blocks[layer].mlp_output, indices)
        else:
            within = torch.arange(model.d_head, device=model.device)
            indices = (indices[:, None] * model.d_head + within).flatten()
            output = model.blocks[layer].attention_output
            yield Group(site, layer, chosen, model.head_weights(layer), output, indices)


def circuit_slices(model: LanguageModel, circuit: Circuit) -> list[Slice]:
    """The weights that belong to the components of `circuit`; no weight is in two slices.

    Raises:
        EditError: the circuit belongs to a model of another shape.
        UnsupportedArchitectureError: it has heads, and the model's attention is not made of heads.
    """
    check_shape(model, circuit.shape)
    pieces = [piece for group in groups(model, circuit.neurons, circuit.heads) for piece in group.slices()]
    for layer in circuit.mlp_layers:
        bias = model.blocks[layer].mlp_output.bias
        if isinstance(bias, nn.Parameter):
            pieces.append(Slice(bias, 0, torch.arange(len(bias), device=bias.device)))
    return pieces


def n_parameters(model: LanguageModel, circuit: Circuit) -> int:
    """Number of single weights that belong to `circuit`: what training confined to it can change.

    Raises:
        EditError: the circuit belongs to a model of another shape.
        UnsupportedArchitectureError: it has heads, and the model's attention is not made of heads.
    """
    return sum(piece.numel for piece in circuit_slices(model, circuit))


def check_shape(model: LanguageModel, shape: Shape) -> None:
    """Refuse components of another model.

    Raises:
        EditError: `shape` is not that of `model`.
    """
    own = model.component_shape
    if shape != own:
        raise EditError(
            f"The components are of a model of {shape.n_layers} layers with {shape.n_heads} heads and "
            f"{shape.n_neurons} neurons each; “{model.name}” has {own.n_layers} with {own.n_heads} and "
            f"{own.n_neurons}. Choose them anew for this model."
        )
