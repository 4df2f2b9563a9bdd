"""Maps components to their weights: rows or columns of parameters.

A neuron owns one row or column of each matrix of its MLP; an attention head owns as many as `d_head`. A whole MLP
layer is all of its neurons and, in training, its output bias. Weights that several components share (norms, the output
bias of an attention layer, keys and values under grouped-query attention) belong to none of them.

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
        """A copy of the slice's weights."""
        return self.parameter.detach().index_select(self.axis, self.indices)

    def write(self, values: Tensor) -> None:
        """Replace the slice's weights; call under `torch.no_grad`. The rest of the parameter is unchanged."""
        self.parameter.index_copy_(self.axis, self.indices, values)

    def without(self, others: Sequence["Slice"]) -> "Slice":
        """The slice without the rows or columns of `others`."""
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
    """Indices of the neurons or heads, ascending."""
    weights: Sequence[NeuronWeight | HeadWeight]
    """The parameters that hold a slice of each; the output weight, which writes to the residual stream, is last."""
    output: nn.Module
    """The module of the output weight."""
    indices: Tensor
    """Rows or columns of each weight, int64, [W]."""

    def slices(self, *, output_only: bool = False) -> Iterator[Slice]:
        """The slices of all weights, or of the output weight alone."""
        for weight in self.weights[-1:] if output_only else self.weights:
            yield Slice(weight.parameter, weight.axis, self.indices)


def by_layer(neurons: NeuronSet, heads: Sequence[Head]) -> Iterator[tuple[Site, int, np.ndarray]]:
    """Yields (site, layer, indices) for each layer with chosen neurons, then for each with chosen heads."""
    for layer, chosen in neurons.by_layer().items():
        yield MLP, layer, chosen
    for layer in sorted({layer for layer, _ in heads}):
        yield HEADS, layer, np.array(sorted(head for at, head in heads if at == layer))


def groups(model: LanguageModel, neurons: NeuronSet, heads: Sequence[Head]) -> Iterator[Group]:
    """Yields the weights of the chosen neurons layer by layer, then those of the chosen heads.

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
    """Number of single weights that belong to `circuit`, which training confined to it can change.

    Raises:
        EditError: the circuit belongs to a model of another shape.
        UnsupportedArchitectureError: it has heads, and the model's attention is not made of heads.
    """
    return sum(piece.numel for piece in circuit_slices(model, circuit))


def check_shape(model: LanguageModel, shape: Shape) -> None:
    """Check that components belong to a model of this shape.

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
