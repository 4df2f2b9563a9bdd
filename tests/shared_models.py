"""Tiny models that are not loaded anew for every test, and copies of weights to compare bit for bit.

`shared` is for tests that only read. `lent` is for tests that change what they get: afterwards the weights are put back,
and a model on which anything else was changed is thrown away, so that every test finds a model as it is after loading.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analysis.models import LanguageModel, load


@cache
def shared(folder: Path) -> LanguageModel:
    """The model of a folder, always the same object: a test must not change it."""
    return load(str(folder), device="cpu")


_spare: dict[Path, "_Restorable"] = {}
"""Models that nobody has at the moment, as they were loaded."""


@contextmanager
def lent(folder: Path) -> Iterator[LanguageModel]:
    """The model of a folder as if freshly loaded, which takes 80 ms; it may be changed."""
    restorable = _spare.pop(folder, None) or _Restorable(load(str(folder), device="cpu"))
    yield restorable.model
    if restorable.restore():
        _spare[folder] = restorable


class _Restorable:
    """A model with what is needed to bring its weights back and to tell whether anything else about it was changed."""

    def __init__(self, model: LanguageModel):
        self.model = model
        self._tensors = list({id(one): one for module in self._modules() for one in _own_tensors(module)}.values())
        self._values = [one.detach().clone() for one in self._tensors]
        self._trained = [one.requires_grad for one in self._tensors]
        self._made_of = self._parts()

    def restore(self) -> bool:
        """Put weights and gradients back; False if the model differs in any other way from what it was."""
        if self._parts() != self._made_of:
            return False
        with torch.no_grad():
            for tensor, value, trained in zip(self._tensors, self._values, self._trained):
                tensor.copy_(value)
                tensor.grad = None
                tensor.requires_grad_(trained)
        return True

    def _modules(self) -> list[torch.nn.Module]:
        tops = [one for one in vars(self.model).values() if isinstance(one, torch.nn.Module)]
        return list({id(one): one for top in tops for one in top.modules()}.values())

    def _parts(self) -> list[object]:
        """What the model, its modules, configuration and tokenizer hold, and where their weights lie."""
        modules = self._modules()
        configs = {id(one.config): one.config for one in modules if hasattr(getattr(one, "config", None), "__dict__")}
        objects = [self.model, self.model.tokenizer, *configs.values(), *modules]
        backend = self.model.tokenizer.backend_tokenizer.to_str()  # its settings lie outside Python
        pointers = [one.data_ptr() for one in self._tensors]
        return [backend, pointers, *([type(one), _contents(vars(one))] for one in objects)]


_LEFT_BY_A_PASS = {"_pattern"}
"""Attributes that every forward pass sets anew: the attention pattern of a GPT-2."""


class _Object:
    """Stands for one object, whatever it holds; keeps it alive, so that no other one comes to lie in its place."""

    def __init__(self, it: object):
        self._it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Object) and self._it is other._it

    __hash__ = None  # type: ignore[assignment]


def _own_tensors(module: torch.nn.Module) -> list[Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _contents(value: Any, depth: int = 3) -> object:
    """A copy of a value to compare with later: plain values and what containers hold, of other objects which they are."""
    if isinstance(value, str | int | float | bool | bytes | type(None)):
        return value
    if depth and isinstance(value, dict):
        items = [(key, one) for key, one in value.items() if not isinstance(key, str) or key not in _LEFT_BY_A_PASS]
        return [(key if isinstance(key, str | int) else _Object(key), _contents(one, depth - 1)) for key, one in items]
    if depth and isinstance(value, list | tuple):
        return [_contents(one, depth - 1) for one in value]
    return _Object(value)


def state(model: LanguageModel) -> dict[str, Tensor]:
    """A copy of every weight as it is now."""
    return {name: parameter.detach().clone() for name, parameter in model.weights.items()}


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two copies are equal bit for bit, signs of zeros included."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name].view(torch.int32), second[name].view(torch.int32)) for name in first
    )
