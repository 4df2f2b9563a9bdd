"""Masks which weights training may change: holds edited weights fixed, or confines training to a circuit.

Held weights are masked in place: their gradients are zeroed before clipping, and what the optimiser did to them
(momentum, weight decay) is undone after each step. This needs a copy of the held slices only.

Confined training gives the optimiser small parameters instead. For each part of a parameter that a circuit owns, it
steps a copy of that part, which receives the part's gradient and is copied back after each step. Nothing writes outside
the part, so all other weights stay bit for bit whatever the optimiser does, and neither they nor their moments are
copied. Parameters without a chosen part get no gradient, and the optimiser does not see them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from analysis.components.circuit import Circuit
from analysis.errors import ConfigError
from analysis.models import LanguageModel
from analysis.training.slices import Slice, circuit_slices

__all__ = ["WeightMask"]


class WeightMask:
    """Gives the trainable weights to an optimiser, and keeps all others unchanged, bit for bit.

    In each training step: `loss.backward()`, `mask_gradients()`, clip and step over `parameters`, `mask_update()`.
    As a context manager it restores every parameter's `requires_grad` at the end.
    """

    def __init__(self, model: LanguageModel, held: Sequence[Slice] = (), only: Circuit | Sequence[Slice] | None = None):
        """Mask the weights at their current values.

        Args:
            model: The model that is trained.
            held: Slices that must not change.
            only: Train only the weights of these components, or these slices; None trains the whole model.

        Raises:
            ConfigError: nothing is left to train.
            EditError: the circuit belongs to a model of another shape.
        """
        self._trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
        self._held: list[tuple[Slice, Tensor]] = []
        self._parts: list[tuple[Slice, nn.Parameter]] = []
        self.parameters: list[nn.Parameter] = []
        """The parameters that the optimiser steps and whose gradient norm is clipped."""
        if only is None:
            self._held = [(piece, piece.read()) for piece in held]
            self.parameters = [parameter for parameter, trained in self._trained.items() if trained]
        else:
            pieces = circuit_slices(model, only) if isinstance(only, Circuit) else only
            self._confine([piece.without(held) for piece in pieces])

    def _confine(self, pieces: Sequence[Slice]) -> None:
        pieces = [piece for piece in pieces if len(piece.indices) and self._trained[piece.parameter]]
        if not pieces:
            raise ConfigError(
                "Nothing is left to train: the edit holds every weight that training is confined to. Confine it to "
                "other components, or let pruned weights grow back."
            )
        for parameter in self._trained:
            parameter.requires_grad_(False)
        for piece in pieces:
            piece.parameter.requires_grad_(True)
            if piece.is_whole:
                self.parameters.append(piece.parameter)
            else:
                part = nn.Parameter(piece.read())
                self._parts.append((piece, part))
                self.parameters.append(part)

    def mask_gradients(self) -> None:
        """Call before clipping: removes the gradients of fixed weights, which must not count in the norm."""
        for piece, _ in self._held:
            if piece.parameter.grad is not None:
                piece.parameter.grad.index_fill_(piece.axis, piece.indices, 0)
        for piece, part in self._parts:
            gradient = piece.parameter.grad
            part.grad = None if gradient is None else gradient.index_select(piece.axis, piece.indices)
            piece.parameter.grad = None

    def mask_update(self) -> None:
        """Call after the optimiser's step: restores held weights, and copies confined parts into the model."""
        with torch.no_grad():
            for piece, value in self._held:
                piece.write(value)
            for piece, part in self._parts:
                piece.write(part)

    def release(self) -> None:
        """Restore every parameter's `requires_grad` and drop the gradients."""
        for parameter, trained in self._trained.items():
            parameter.requires_grad_(trained)
            parameter.grad = None

    def __enter__(self) -> "WeightMask":
        return self

    def __exit__(self, *details: object) -> None:
        self.release()
