"""Copies a loaded model: builds the same architecture from its configuration and copies the current weights into it.

PyTorch cannot deep-copy every bridge (GPT-2's query, key and value weights are views of one matrix), so the plain
transformers model is built and wrapped in a new bridge.
"""

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.errors import UnsupportedArchitectureError
from analysis.models.language_model import LanguageModel
from analysis.models.loading import from_parts

__all__ = ["copy_model"]

_EXACT = 1e-6
"""Largest difference between the logits of a model and its copy, in standard deviations."""


def copy_model(model: LanguageModel) -> LanguageModel:
    """Copy a model with its current weights, edits and added biases; needs memory for a second set of weights.

    Tokenizer and source are shared, because nothing changes them.

    Raises:
        UnsupportedArchitectureError: the copy's logits differ, so some of the model's weights were not copied.
    """
    with model.lock:
        original: Any = model._inner
        fresh = _built(original, getattr(torch, model.dtype)).to(model.device)
        with torch.no_grad():
            own = dict(fresh.named_parameters())
            for name, tensor in model.stored_weights().items():
                if name in own:
                    own[name].copy_(tensor)
                else:  # a bias that an edit added
                    module, _, last = name.rpartition(".")
                    fresh.get_submodule(module).register_parameter(last, nn.Parameter(tensor.clone()))
        fresh.train(original.training)
        with tempfile.TemporaryDirectory() as folder:
            fresh.config.save_pretrained(folder)  # type: ignore[operator,union-attr]
            copied = from_parts(fresh, model.tokenizer, model.source, folder=Path(folder), dtype=model.dtype)
        difference = model.fingerprint().difference(copied.fingerprint())
    if not difference <= _EXACT:
        raise UnsupportedArchitectureError(
            f"A copy of “{model.name}” gives other logits than the model itself (by {difference:.2g} standard deviations), "
            "so it cannot be edited or retrained safely. Load the model again and work on that."
        )
    return copied


def _built(original: Any, dtype: torch.dtype) -> nn.Module:
    """Builds a transformers model with the configuration of `original`; its weights are uninitialised."""
    from transformers.initialization import no_init_weights

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with no_init_weights():
            built = type(original)(copy.deepcopy(original.config))
        built.tie_weights()
        return built
    finally:
        torch.set_default_dtype(before)
