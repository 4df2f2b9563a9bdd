"""Rebuilds stored projections that a bridge has split into copies: fused query, key and value weights.

Several families store query, key and value as one weight, and the bridge runs their parts. Where these are rows or
columns in sequence (GPT-2, Phi-3), the parts share the stored weight's memory. Where they are interleaved by head or
copied (GPT-NeoX, BLOOM, Falcon, MPT, CodeGen), no forward pass reads the stored weight any more: only the parts are
trained and edited, and the stored weight is composed of them where plain transformers needs it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from analysis.errors import UnsupportedArchitectureError
from analysis.models.linear_layers import lies_inside, wrapped

__all__ = ["Division", "Split", "divisions", "splits"]


@dataclass(frozen=True, eq=False)
class Division:
    """A fused projection and the linear layers that a bridge runs in its place."""

    fused: Any
    """The stored layer, which is not run."""
    parts: tuple[Any, ...]
    divide: Callable[[nn.Module], Any]
    """Divides a layer of the same shape in the same way."""


@dataclass(frozen=True, eq=False)
class Split:
    """A stored weight or bias that no forward pass reads, and the copies of its rows that are read instead."""

    stored: nn.Parameter
    """As loaded; its values go stale once a part is trained or edited."""
    parts: tuple[nn.Parameter, ...]
    rows: tuple[Tensor, ...]
    """The rows of the stored parameter that each part holds, int64."""

    def composed(self) -> Tensor:
        """The stored parameter with the current values of its parts, detached, of its own shape."""
        whole = torch.empty_like(self.stored, memory_format=torch.contiguous_format)
        for part, rows in zip(self.parts, self.rows):
            whole[rows.to(whole.device)] = part.detach()
        return whole


def divisions(block: Any) -> Iterator[Division]:
    """Yield every fused projection of a bridge's block that the bridge has divided."""
    attention: Any = getattr(block, "attn", None)
    mlp: Any = getattr(block, "mlp", None)
    if hasattr(attention, "split_qkv_matrix") and (fused := wrapped(attention, "qkv")) is not None:
        divide = partial(_divide, attention.split_qkv_matrix, attention.submodules["qkv"].name)
        yield Division(fused, tuple(wrapped(attention, part) for part in ("q", "k", "v")), divide)
    if hasattr(mlp, "split_gate_up_matrix"):
        fused = getattr(mlp.original_component, mlp.fused_attr)
        divide = partial(_divide, mlp.split_gate_up_matrix, mlp.fused_attr)
        fused = getattr(fused, "original_component", fused)
        yield Division(fused, tuple(wrapped(mlp, part) for part in ("gate", "in")), divide)


def splits(blocks: Iterable[Any], model_name: str) -> list[Split]:
    """The stored parameters of all blocks that the bridge has split into copies; call before anything is changed.

    Args:
        blocks: The bridge's blocks.
        model_name: Name of the model, for the message.

    Raises:
        UnsupportedArchitectureError: the parts are not rows of what is stored.
    """
    found: list[Split] = []
    known: dict[tuple, tuple[Tensor, ...]] = {}
    for block in blocks:
        for division in divisions(block):
            for field in ("weight", "bias"):
                stored: Any = getattr(division.fused, field, None)
                parts: tuple[Any, ...] = tuple(getattr(part, field, None) for part in division.parts)
                if stored is None or all(lies_inside(part, stored) for part in parts):
                    continue
                key = (field, stored.shape, *(part.shape for part in parts))
                if key not in known:
                    known[key] = _rows(division, field)
                split = Split(stored, parts, known[key])
                if not _is_exact(split):
                    raise UnsupportedArchitectureError(
                        f"TransformerLens computes “{model_name}” with copies of a fused projection that are not its "
                        "rows, so an edit could not be written back. Choose a model of another architecture."
                    )
                found.append(split)
    return found


def _divide(divide: Callable[[Any], Any], name: str, fused: nn.Module) -> Any:
    """Divide a projection as the bridge does, which looks it up by `name` in the module that owns it."""
    return divide(SimpleNamespace(**{name: fused}))


def _rows(division: Division, field: str) -> tuple[Tensor, ...]:
    """The rows of a fused projection that each part holds, found by dividing a projection whose rows are numbered."""
    weight = division.fused.weight
    numbers = torch.arange(len(weight), dtype=torch.float64)
    stand_in: Any = nn.Module()
    stand_in.weight = nn.Parameter(numbers[:, None].expand(weight.shape), requires_grad=False)
    has_bias = getattr(division.fused, "bias", None) is not None
    stand_in.bias = nn.Parameter(numbers, requires_grad=False) if has_bias else None
    with torch.device("meta"), torch.no_grad():  # the layers that the bridge makes on the way need no values
        parts = division.divide(stand_in)
    values = [getattr(part, field).detach() for part in parts]
    return tuple((one if one.ndim == 1 else one[:, 0]).to(torch.int64) for one in values)


def _is_exact(split: Split) -> bool:
    """Whether the parts hold every row of what is stored, each once, with its values."""
    rows = torch.cat(split.rows)
    complete = torch.equal(rows.sort().values, torch.arange(len(split.stored)))
    return complete and torch.equal(split.composed(), split.stored.detach())
