"""Tiny models that are loaded once for all tests that only read them, and copies of weights to compare bit for bit."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from analysis.models import LanguageModel, load


@cache
def shared(folder: Path) -> LanguageModel:
    """The model of a folder, always the same object: a test must not change it."""
    return load(str(folder), device="cpu")


def state(model: LanguageModel) -> dict[str, Tensor]:
    """A copy of every weight as it is now."""
    return {name: parameter.detach().clone() for name, parameter in model.weights.items()}


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two copies are equal bit for bit, signs of zeros included."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name].view(torch.int32), second[name].view(torch.int32)) for name in first
    )
