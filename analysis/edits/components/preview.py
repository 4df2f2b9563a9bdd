"""Previews a component edit with hooks: inside a `with` block the model behaves as edited, and no weight changes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from analysis.components.sites import MLP
from analysis.edits.components.edit import PlannedEdit
from analysis.models import LanguageModel
from analysis.training.slices import by_layer, check_shape

__all__ = ["preview"]


@contextmanager
def preview(model: LanguageModel, planned: PlannedEdit) -> Iterator[None]:
    """Forward passes inside the block behave as if `planned` had been applied.

    Raises:
        EditError: the components belong to a model of another shape.
    """
    check_shape(model, planned.shape)
    reverse, functions = planned.edit.kind == "reverse", []
    for site, layer, chosen in by_layer(planned.neurons, planned.heads):
        indices = torch.tensor(chosen, device=model.device)
        index = (..., indices) if site is MLP else (..., indices, slice(None))
        functions.append((site.hook(layer), _change(index, planned.means(site, layer, chosen), reverse=reverse)))
    with model.hooks(functions):
        yield


def _change(index: tuple, means: np.ndarray | None, *, reverse: bool) -> Callable:
    def change(activation: Tensor, hook: object) -> Tensor:
        changed = activation.clone()
        if reverse:
            # negating the activation and negating the output vector write the same thing to the residual stream
            changed[index] = -activation[index]
        elif means is None:
            changed[index] = 0
        else:
            changed[index] = torch.tensor(means, dtype=activation.dtype, device=activation.device)
        return changed

    return change
