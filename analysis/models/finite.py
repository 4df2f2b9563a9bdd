"""Refuses numbers of a model that are not finite: nothing measured from them would mean anything.

float16 overflows above 65,504. A probability computed from an overflown activation is NaN, and NaN compares as smaller than
every threshold: unchecked, it reads as “the model knows nothing”.
"""

import numpy as np
import torch
from torch import Tensor

from analysis.errors import ModelFileError
from analysis.models.language_model import LanguageModel

__all__ = ["check_finite", "not_finite"]


def check_finite(model: LanguageModel, values: Tensor | np.ndarray | float, what: str = "logits") -> None:
    """Check that all values are finite.

    Args:
        model: The model that computed them.
        values: The values.
        what: What they are, for the message: “logits”, or “activations at blocks.3.mlp.hook_post”.

    Raises:
        ModelFileError: some value is NaN or infinite.
    """
    finite = torch.isfinite(values).all() if isinstance(values, Tensor) else np.isfinite(values).all()
    if not bool(finite):
        raise not_finite(model, what)


def not_finite(model: LanguageModel, what: str = "logits") -> ModelFileError:
    """The error of `check_finite`, which says what to do."""
    advice = (
        "float16 overflows on this model: load it in bfloat16 or float32."
        if model.dtype == "float16"
        else "Undo the last edit, or load the model again; if it was not edited, its weights are damaged."
    )
    return ModelFileError(f"The {what} of “{model.name}” are not finite (NaN or infinity). {advice}")
