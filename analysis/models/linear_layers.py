"""A view of linear layers as transformers stores them: orientation of the weight, and parts of fused projections.

Most families store a linear layer's weight as [out, in] (`torch.nn.Linear`); GPT-2 stores [in, out] (`Conv1D`). Families
with fused projections (GPT-2, GPT-NeoX, Phi-3) store several maps as one weight; the bridge adds their parts as linear
layers of their own and runs only those.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["Linear", "is_linear", "lies_inside", "stores_in_out", "wrapped"]


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer of a model, with its weight stored as [out, in] or [in, out]."""

    module: nn.Module
    """Maps [..., in] to [..., out]. A forward hook on it sees this input and output."""

    @property
    def weight(self) -> nn.Parameter:
        """[out, in], or [in, out] where `stores_in_out`."""
        module: Any = self.module
        return module.weight

    @property
    def stores_in_out(self) -> bool:
        """Whether the weight is stored as [in, out] (GPT-2) rather than [out, in]."""
        return stores_in_out(self.module)

    @property
    def output_axis(self) -> int:
        """The axis of `weight` that indexes outputs."""
        return int(self.stores_in_out)

    @property
    def n_outputs(self) -> int:
        return self.weight.shape[self.output_axis]

    @property
    def n_inputs(self) -> int:
        return self.weight.shape[1 - self.output_axis]


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer, torch's or GPT-2's (`Conv1D`)."""
    return isinstance(module, nn.Linear) or stores_in_out(module)


def stores_in_out(module: nn.Module) -> bool:
    """Whether a linear module stores its weight as [in, out] (GPT-2's Conv1D) rather than [out, in]."""
    return type(module).__name__ == "Conv1D"


def lies_inside(part: Tensor, whole: Tensor) -> bool:
    """Whether the memory of `part` is a proper part of the memory of `whole`."""
    begin = whole.data_ptr()
    return part.numel() < whole.numel() and begin <= part.data_ptr() < begin + whole.numel() * whole.element_size()


def wrapped(parent: Any, name: str) -> Any:
    """The transformers module inside a bridge's component; None if there is none."""
    return getattr(getattr(parent, name, None), "original_component", None)
