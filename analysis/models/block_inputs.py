"""Records the inputs of every block in a forward pass, and reruns blocks from any layer on.

Axes: `B` batch, `P` position, `D` d_model.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["BlockInputs"]


class BlockInputs:
    """Inputs of every block in one forward pass: the residual stream and the other arguments (masks, positions).

    Rerunning is wrong for families that pass more than the residual stream from block to block, so callers must check
    that an unmodified rerun equals the original pass.
    """

    def __init__(self, blocks: Sequence[nn.Module]):
        self._blocks = blocks
        self._calls: list[tuple[Tensor, tuple, dict[str, Any]]] = []

    @contextmanager
    def recording(self) -> Iterator["BlockInputs"]:
        """Record the inputs of each block; run exactly one forward pass inside."""
        with ExitStack() as stack:
            for block in self._blocks:
                stack.callback(block.register_forward_pre_hook(self._note, with_kwargs=True).remove)
            yield self

    @property
    def is_complete(self) -> bool:
        """Whether the residual stream entering each block was recorded, once per block."""
        return len(self._calls) == len(self._blocks)

    def run(self, first: int, end: int) -> Float[Tensor, "B P D"]:
        """Run the blocks `first` to `end - 1` on the recorded input of `first`; returns the residual stream after them.

        Installed hooks fire. If `end` equals `first`, returns the recorded input of `first`.
        """
        residual_BPD = self._calls[first][0]
        for layer in range(first, end):
            _, others, named = self._calls[layer]
            output = self._blocks[layer](residual_BPD, *others, **named)
            residual_BPD = output[0] if isinstance(output, tuple) else output
        return residual_BPD

    def _note(self, block: nn.Module, arguments: tuple, named: dict[str, Any]) -> None:
        if arguments:
            self._calls.append((arguments[0], arguments[1:], named))
        elif "hidden_states" in named:
            others = {name: value for name, value in named.items() if name != "hidden_states"}
            self._calls.append((named["hidden_states"], (), others))
