"""LoRA (Hu et al. 2021, arXiv 2106.09685): trains low-rank factors added to linear layers, and merges them at the end.

The weights are frozen while the factors train, so they need neither gradients nor optimiser moments. If a circuit owns
only some rows or columns of a layer, the factors cover only those. Biases, norms and embeddings are not trained.

Axes: `R` rank, `I` inputs, `O` outputs of a layer that the factors cover.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.errors import ConfigError
from analysis.models import LanguageModel
from analysis.models.linear_layers import Linear
from analysis.training.slices import Slice

__all__ = ["LowRank", "linear_slices", "stored_slices"]


def linear_slices(model: LanguageModel, pieces: Sequence[Slice] | None = None) -> list[Slice]:
    """The slices among `pieces` that belong to linear layers; for None, every linear layer of every block, whole.

    Raises:
        ConfigError: no slice belongs to a linear layer.
    """
    weights = {id(linear.weight): linear.weight for linear in _linears(model)}
    if pieces is None:
        return [Slice(one, 0, torch.arange(len(one), device=one.device)) for one in weights.values()]
    found = [piece for piece in pieces if id(piece.parameter) in weights and len(piece.indices)]
    if not found:
        raise ConfigError(
            "None of the chosen weights belongs to a linear layer, so no factors can be trained for them."
        )
    return found


def stored_slices(model: LanguageModel, pieces: Sequence[Slice]) -> list[Slice]:
    """Maps slices to stored parameters: a slice of a fused projection's part becomes the whole projection."""
    found: dict[int, Slice] = {}
    for piece in pieces:
        stored = model.stored_parameter(piece.parameter)
        if stored is piece.parameter:
            found[id(piece)] = piece
        elif stored is not None:
            found[id(stored)] = Slice(stored, 0, torch.arange(len(stored), device=stored.device))
    return list(found.values())


class LowRank:
    """Low-rank factors on slices of linear layers; has the interface of `WeightMask`, plus `merge`."""

    def __init__(self, model: LanguageModel, pieces: Sequence[Slice], *, rank: int, alpha: float, seed: int):
        """Freeze the model and add factors whose product is zero.

        Args:
            model: The model that is trained.
            pieces: Slices of linear layers (`linear_slices`); no weight may be in two of them.
            rank: Rank of the factors.
            alpha: The factors' product is scaled by alpha / rank.
            seed: Draws the initial factors.
        """
        self._trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
        for parameter in self._trained:
            parameter.requires_grad_(False)
        modules = {id(linear.weight): linear for linear in _linears(model)}
        draw = torch.Generator().manual_seed(seed)
        self._factors = [_Factor(modules[id(one.parameter)], one, rank, alpha / rank, draw) for one in pieces]
        self._handles = [factor.linear.module.register_forward_hook(factor.add) for factor in self._factors]
        self.parameters: list[nn.Parameter] = [one for factor in self._factors for one in (factor.a_RI, factor.b_OR)]
        """The factors, which the optimiser steps."""

    def mask_gradients(self) -> None:
        """Does nothing: only the factors have gradients."""

    def mask_update(self) -> None:
        """Does nothing: only the factors were stepped."""

    def merge(self) -> None:
        """Remove the factors and add their product to the weights."""
        self._detach()
        with torch.no_grad():
            for factor in self._factors:
                factor.merge()

    def release(self) -> None:
        """Remove the factors and restore every parameter's `requires_grad`."""
        self._detach()
        for parameter, trained in self._trained.items():
            parameter.requires_grad_(trained)

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> "LowRank":
        return self

    def __exit__(self, *details: object) -> None:
        self.release()


class _Factor:
    def __init__(self, linear: Linear, piece: Slice, rank: int, scale: float, draw: torch.Generator):
        self.linear, self.piece, self.scale = linear, piece, scale
        self.by_output = piece.axis == linear.output_axis
        n_out = len(piece.indices) if self.by_output else linear.n_outputs
        n_in = linear.n_inputs if self.by_output else len(piece.indices)
        device = linear.weight.device
        self.a_RI = nn.Parameter((torch.randn(rank, n_in, generator=draw) / n_in**0.5).to(device))
        self.b_OR = nn.Parameter(torch.zeros(n_out, rank, device=device))

    def add(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Forward hook: returns the layer's output plus the factors' output."""
        x = inputs[0]
        if not self.by_output and not self.piece.is_whole:
            x = x.index_select(-1, self.piece.indices)
        added = (F.linear(F.linear(x.to(self.a_RI.dtype), self.a_RI), self.b_OR) * self.scale).to(output.dtype)
        if self.by_output and not self.piece.is_whole:
            return output.index_add(-1, self.piece.indices, added)
        return output + added

    def merge(self) -> None:
        product_OI = self.scale * (self.b_OR @ self.a_RI)
        change = product_OI.T if self.linear.stores_in_out else product_OI
        before = self.piece.read()
        self.piece.write((before + change).to(before.dtype))


def _linears(model: LanguageModel) -> list[Linear]:
    """The linear layers of all blocks, each once; fused projections as their parts, because only those are run."""
    found = {id(one.weight): one for block in model.blocks for one in block.linears()}
    return list(found.values())
