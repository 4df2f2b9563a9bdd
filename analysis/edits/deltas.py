"""Saves the weights that an edit changed as a bitwise XOR on disk, and applies or reverts it exactly.

For every touched row or column of a parameter, a delta holds the exclusive or (XOR) of the bits before and after the
edit. XOR is its own inverse: it turns the weights before into those after, and those after into those before, without
rounding. A delta is one safetensors file. Its header holds the parameters' names as transformers spells them, and
digests of both states, so that a delta is never applied to weights it was not made for.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from analysis.errors import EditError
from analysis.models import LanguageModel
from analysis.training.slices import Slice

__all__ = ["Before", "Delta", "digest", "parameter_names"]

_FORMAT = "palimpsest delta 1"
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Before:
    """A copy in memory of the weights an edit may change, kept while the edit is written."""

    slices: tuple[Slice, ...]
    values: tuple[Tensor, ...]
    unbiased: tuple[nn.Module, ...]
    """Modules that had no bias."""
    digest: str

    @classmethod
    def of(cls, slices: Sequence[Slice], biased: Sequence[nn.Module]) -> "Before":
        """Copy the values of `slices` and the biases of the modules `biased`."""
        biases = [module.bias for module in biased if isinstance(module.bias, nn.Parameter)]
        # a trained layer's bias may be among the slices already
        known = {id(piece.parameter) for piece in slices if piece.is_whole}
        fresh = [
            Slice(bias, 0, torch.arange(len(bias), device=bias.device)) for bias in biases if id(bias) not in known
        ]
        pieces = (*slices, *fresh)
        unbiased = tuple(module for module in biased if module.bias is None)
        return cls(pieces, tuple(piece.read() for piece in pieces), unbiased, digest(pieces, unbiased))

    def restore(self) -> None:
        """Write the copied values back, bit for bit."""
        with torch.no_grad():
            for piece, values in zip(self.slices, self.values):
                piece.write(values)
            for module in self.unbiased:
                module.bias = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Delta:
    """A delta's file, opened for one model."""

    path: Path
    slices: tuple[Slice, ...]
    unbiased: tuple[nn.Module, ...]
    """Modules whose bias the edit added."""
    header: dict[str, Any]

    @classmethod
    def save(cls, path: Path, model: LanguageModel, before: Before, **details: Any) -> "Delta":
        """Write the difference between `before` and the weights as they are now.

        Args:
            path: New file; it appears whole or not at all.
            model: The edited model.
            before: The weights before the edit.
            details: Further fields of the header; JSON values.

        Raises:
            EditError: the file cannot be written.
        """
        names = parameter_names(model)
        tensors: dict[str, Tensor] = {}
        pieces, n_changed = [], 0
        for i, (piece, values) in enumerate(zip(before.slices, before.values)):
            bits = _BITS[values.element_size()]
            xor = (values.contiguous().view(bits) ^ piece.read().contiguous().view(bits)).movedim(piece.axis, 0)
            changed = torch.nonzero(xor.flatten(1).any(1) if xor.ndim > 1 else xor != 0).flatten()
            n_changed += int((xor != 0).sum())
            tensors[f"{i}.indices"] = piece.indices.cpu().to(torch.int32, copy=True)
            tensors[f"{i}.changed"] = changed.cpu()
            tensors[f"{i}.xor"] = xor[changed].contiguous().cpu()
            pieces.append({"parameter": names[piece.parameter], "axis": piece.axis, "dtype": str(values.dtype)})
        names_of_modules = {id(linear.module): name for name, linear in model.named_linears().items()}
        for k, module in enumerate(before.unbiased):
            if isinstance(module.bias, nn.Parameter):
                tensors[f"bias.{k}"] = module.bias.detach().cpu().contiguous()
                n_changed += module.bias.numel()
        header = {
            "format": _FORMAT,
            "pieces": pieces,
            "unbiased": [names_of_modules[id(module)] for module in before.unbiased],
            "n_changed": n_changed,
            "digest_before": before.digest,
            "digest_after": digest(before.slices, before.unbiased),
            **details,
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, temporary, metadata={"delta": json.dumps(header)})
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            raise EditError(
                f"The edit's undo file {path} cannot be written ({error}). Free some space; the weights are unchanged."
            ) from error
        finally:
            if temporary.is_file():
                temporary.unlink()
        return cls(path, before.slices, before.unbiased, header)

    @classmethod
    def open(cls, path: Path, model: LanguageModel) -> "Delta":
        """Open a delta file for a model with the same parameters.

        Raises:
            EditError: the file is damaged, or names weights that `model` does not have.
        """
        header, tensors = _read(path)
        parameters = {name: parameter for parameter, name in parameter_names(model).items()}
        linears = model.named_linears()
        try:
            slices = tuple(
                Slice(
                    parameters[piece["parameter"]], piece["axis"], tensors[f"{i}.indices"].to(model.device, torch.int64)
                )
                for i, piece in enumerate(header["pieces"])
            )
            unbiased = tuple(linears[name].module for name in header["unbiased"])
        except KeyError as error:
            if error.args[0] in model.stored_weights():
                raise EditError(
                    f"{path} holds a fused projection ({error}) that the model does not compute with: an earlier version "
                    "did not record what the edit changed in its query, key and value weights. Make the edit anew."
                ) from error
            raise EditError(f"{path} was made for another model: this one has no {error}.") from error
        for piece in slices:
            if not len(piece.indices) or int(piece.indices.max()) >= piece.parameter.shape[piece.axis]:
                raise EditError(f"{path} was made for another model: its weights have another shape.")
        return cls(path, slices, unbiased, header)

    def digest_now(self) -> str:
        """Digest of the touched weights as they are now."""
        return digest(self.slices, self.unbiased)

    def apply(self) -> None:
        """Turn the weights before the edit into those after it.

        Raises:
            EditError: the weights are not those before the edit; nothing is changed.
        """
        self._toggle("digest_before", "digest_after", add_biases=True)

    def revert(self) -> None:
        """Turn the weights after the edit into those before it.

        Raises:
            EditError: the weights are not those after the edit; nothing is changed.
        """
        self._toggle("digest_after", "digest_before", add_biases=False)

    def _toggle(self, source: str, goal: str, *, add_biases: bool) -> None:
        if self.digest_now() != self.header[source]:
            raise EditError(
                "The edited weights were changed after the edit (by training?), so it cannot be undone exactly. "
                "Load the model again."
                if source == "digest_after"
                else f"{self.path} was made for other weights than these. Undo later edits first, or load the model again."
            )
        _, tensors = _read(self.path)
        held, biases = Before.of(self.slices, ()), [module.bias for module in self.unbiased]

        def restore() -> None:
            held.restore()
            for module, bias in zip(self.unbiased, biases):
                module.bias = bias  # type: ignore[assignment]

        try:
            with torch.no_grad():
                for i, piece in enumerate(self.slices):
                    values = piece.read()
                    _toggle_bits(values, piece.axis, tensors[f"{i}.changed"], tensors[f"{i}.xor"])
                    piece.write(values)
                for k, module in enumerate(self.unbiased):
                    bias = tensors.get(f"bias.{k}") if add_biases else None
                    weight: Any = module.weight
                    module.bias = (  # type: ignore[assignment]
                        None if bias is None else nn.Parameter(bias.to(weight.device), requires_grad=False)
                    )
        except BaseException as error:
            restore()
            if not isinstance(error, (KeyError, RuntimeError, IndexError)):
                raise
            raise EditError(f"{self.path} is damaged ({error}). The weights are unchanged.") from error
        if self.digest_now() != self.header[goal]:
            restore()
            raise EditError(f"{self.path} is damaged: it does not yield the weights that its header names.")


def parameter_names(model: LanguageModel) -> dict[nn.Parameter, str]:
    """Every parameter that an edit can change, with its name: as plain transformers spells it, or that of a part."""
    return {parameter: name for name, parameter in (model.views | model.weights).items()}


def digest(slices: Sequence[Slice], unbiased: Sequence[nn.Module] = ()) -> str:
    """SHA-256 of the weights in `slices` and of the biases that an edit added."""
    found = hashlib.sha256()
    for piece in slices:
        found.update(_bytes(piece.read()))
    for module in unbiased:
        found.update(_bytes(module.bias.detach()) if isinstance(module.bias, nn.Parameter) else b"none")
    return found.hexdigest()


def _toggle_bits(values: Tensor, axis: int, changed: Tensor, xor: Tensor) -> None:
    bits = values.view(_BITS[values.element_size()]).movedim(axis, 0)
    changed = changed.to(values.device)
    bits[changed] = bits[changed] ^ xor.to(values.device)


def _bytes(tensor: Tensor) -> bytes:
    return np.ascontiguousarray(tensor.contiguous().cpu().view(torch.uint8).numpy()).tobytes()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["delta"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise EditError(
            f"{path} cannot be read ({error}), so this edit cannot be undone. Load the model again."
        ) from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise EditError(f"{path} is not a delta file of this version.")
    return header, tensors
