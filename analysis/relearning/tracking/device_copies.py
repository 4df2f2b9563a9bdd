"""Numbers that a device works out, read when they have arrived instead of waiting for them.

Waiting for a loss in every step leaves a GPU idle while the next step is prepared. On other devices a number is there at
once.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["ArrayCopies", "ScalarCopies"]

_IN_FLIGHT = 4
"""Most numbers under way: so many steps later at most a diverged loss is noticed."""


class ScalarCopies:
    """Takes numbers with the step they belong to, and gives them back in order once they are here."""

    def __init__(self, device: torch.device):
        self._device = device
        self._here: list[tuple[int, float]] = []
        self._coming: deque[tuple[int, Tensor, Any]] = deque()

    def put(self, step: int, value: Tensor) -> None:
        """Start a number's way; waits only for the one so many before it."""
        if self._device.type != "cuda":
            self._here.append((step, float(value)))
            return
        landing = torch.empty((), dtype=value.dtype, pin_memory=True)
        landing.copy_(value, non_blocking=True)
        arrival = torch.cuda.Event()
        arrival.record(torch.cuda.current_stream(self._device))
        self._coming.append((step, landing, arrival))
        if len(self._coming) > _IN_FLIGHT:
            self._land(wait=True)

    def take(self, *, wait: bool = False) -> list[tuple[int, float]]:
        """The numbers that arrived since the last call; with `wait` all that are under way."""
        while self._coming and (wait or self._coming[0][2].query()):
            self._land(wait=wait)
        here, self._here = self._here, []
        return here

    def _land(self, *, wait: bool) -> None:
        step, landing, arrival = self._coming.popleft()
        if wait:
            arrival.synchronize()
        self._here.append((step, float(landing)))


class ArrayCopies:
    """Results of a pass on their way to the CPU, beside the training that goes on meanwhile."""

    def __init__(self, results: Mapping[str, Tensor], device: torch.device):
        """Start copying; on CUDA on a stream of its own, which begins when the results are worked out."""
        self._results = dict(results)
        self._arrival: Any = None
        if device.type == "cuda":
            side = torch.cuda.Stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                self._results = {name: _pinned(result, side) for name, result in results.items()}
                self._arrival = torch.cuda.Event()
                self._arrival.record(side)

    def ready(self) -> bool:
        """Whether everything has arrived."""
        return self._arrival is None or self._arrival.query()

    def get(self) -> dict[str, np.ndarray]:
        """The results; waits for them."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return {name: result.cpu().numpy() for name, result in self._results.items()}


def _pinned(result: Tensor, side: Any) -> Tensor:
    landing = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
    landing.copy_(result, non_blocking=True)
    result.record_stream(side)  # its memory must not be given to others before the copy is made
    return landing
