"""Which weights training may move: held ones stay as an edit left them, and a circuit may confine training to itself.

Held weights are masked in place: their gradients are removed before clipping, and what the optimiser did to them
(momentum, weight decay) is undone after each step, which needs a copy of the held slices only.

Confined training works the other way round. Where a circuit owns a part of a parameter, the optimiser gets a small
parameter of its own: a copy of that part, which receives the part's gradient and is copied back after each step.
Nothing ever writes outside it, so the rest keeps its bits whatever the optimiser does, and neither the rest nor its
moments are ever copied. Parameters without a chosen part get no gradient and are unknown to the optimiser.
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
    """Hands the weights that may move to an optimiser, and keeps all others as they are, bit for bit.

    In each training step: `loss.backward()`, `mask_gradients()`, clip and step over `parameters`, `mask_update()`.
    As a context manager it lets every parameter be trained again at the end.
    """

    def __init__(self, model: LanguageModel, held: Sequence[Slice] = (), only: Circuit | Sequence[Slice] | None = None):
        """Mask the weights as they are now.

        Args:
            model: The model that is trained.
            held: Slices that must not move.
            only: Move nothing but the weights of these components, or these slices; None moves the whole model.

        Raises:
            ConfigError: nothing is left to train.
            EditError: the circuit belongs to a model of another shape.
        """
        self._trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
        self._held: list[tuple[Slice, Tensor]] = []
        self._parts: list[tuple[Slice, nn.Parameter]] = []
        self.parameters: list[nn.Parameter] = []
        """What the optimiser steps, and what the gradient's norm is taken over."""
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
        """Before clipping: a weight that may not move must not count in the norm."""
        for piece, _ in self._held:
            if piece.parameter.grad is not None:
                piece.parameter.grad.index_fill_(piece.axis, piece.indices, 0)
        for piece, part in self._parts:
            gradient = piece.parameter.grad
            part.grad = None if gradient is None else gradient.index_select(piece.axis, piece.indices)
            piece.parameter.grad = None

    def mask_update(self) -> None:
        """After the optimiser's step: held weights get their old value back, confined ones their new value."""
        with torch.no_grad():
            for piece, value in self._held:
                piece.write(value)
            for piece, part in self._parts:
                piece.write(part)

    def release(self) -> None:
        """Take the confinement back and drop the gradients."""
        for parameter, trained in self._trained.items():
            parameter.requires_grad_(trained)
            parameter.grad = None

    def __enter__(self) -> "WeightMask":
        return self

    def __exit__(self, *details: object) -> None:
        self.release()
