"""Chooses what a run trains: all weights, those of some components, or low-rank factors beside them."""

from collections.abc import Sequence

import torch

from analysis.components.circuit import Circuit
from analysis.edits import WeightMask, circuit_slices
from analysis.errors import ConfigError
from analysis.models import LanguageModel
from analysis.relearning.config import RelearnConfig
from analysis.training.lora import LowRank, linear_slices
from analysis.training.slices import Slice

__all__ = ["trainable"]


def trainable(model: LanguageModel, config: RelearnConfig, held: Sequence[Slice]) -> WeightMask | LowRank:
    """The weights or factors that a run trains, without the weights in `held`.

    Raises:
        ConfigError: nothing is left to train, or low-rank factors cannot leave out the held weights.
        EditError: `train_only` names components that the model does not have.
    """
    only = Circuit.parse(config.train_only, model.component_shape) if config.train_only else None
    if not config.lora_rank:
        return WeightMask(model, held, only)
    pieces = linear_slices(model, circuit_slices(model, only) if only else None)
    free = [piece for piece in (_free(piece, held) for piece in pieces) if len(piece.indices)]
    if not free:
        raise ConfigError(
            "Nothing is left to train: the edit holds every weight that training is confined to. Confine it to other "
            "components, or let pruned weights grow back."
        )
    return LowRank(model, free, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed)


def _free(piece: Slice, held: Sequence[Slice]) -> Slice:
    """The part of a linear layer's slice that is not held, cut along the axis of the held rows or columns."""
    axes = {other.axis for other in held if other.parameter is piece.parameter}
    if not axes:
        return piece
    if len(axes) > 1 or (not piece.is_whole and axes != {piece.axis}):
        raise ConfigError(
            "Low-rank factors cannot leave out the weights that edits hold in a layer: these are rows and columns, or lie "
            "across the trained ones. Set lora_rank to 0, or let pruned weights grow back."
        )
    (axis,) = axes
    if piece.is_whole:
        length = piece.parameter.shape[axis]
        piece = Slice(piece.parameter, axis, torch.arange(length, device=piece.parameter.device))
    return piece.without(held)
