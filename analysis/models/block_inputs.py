"""Take a forward pass up again at any layer: what entered every block is kept, and blocks are run again from there.

Axes: `B` batch, `P` position, `D` d_model.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["BlockInputs"]


class BlockInputs:
    """What entered every block in one forward pass: the residual stream, and what goes with it (masks, positions).

    Families that carry more from block to block than the residual stream cannot be taken up this way; whoever uses it
    must compare an untouched pass that was taken up with the whole one.
    """

    def __init__(self, blocks: Sequence[nn.Module]):
        self._blocks = blocks
        self._calls: list[tuple[Tensor, tuple, dict[str, Any]]] = []

    @contextmanager
    def recording(self) -> Iterator["BlockInputs"]:
        """Note what enters each block in the one forward pass that is made inside."""
        with ExitStack() as stack:
            for block in self._blocks:
                stack.callback(block.register_forward_pre_hook(self._note, with_kwargs=True).remove)
            yield self

    @property
    def is_complete(self) -> bool:
        """Whether every block was entered exactly once, with a residual stream that could be told."""
        return len(self._calls) == len(self._blocks)

    def run(self, first: int, end: int) -> Float[Tensor, "B P D"]:
        """The residual stream after the blocks `first` to `end - 1`, entered with what entered `first` back then.

        Hooks that are installed fire; with `end` equal to `first` it is what entered `first`.
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
