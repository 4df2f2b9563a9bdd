"""Non-blocking copies of losses and snapshot results from the GPU to the CPU.

Reading a loss in every step would make the CPU wait, and leave the GPU idle while the next step is prepared. On other devices
values are copied at once.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["ArrayCopies", "ScalarCopies"]

_IN_FLIGHT = 4
"""Copies in flight at most: a diverged loss is noticed at most this many steps later."""


class ScalarCopies:
    """Copies one scalar for each step, and returns finished copies in the order of their steps."""

    def __init__(self, device: torch.device):
        self._device = device
        self._here: list[tuple[int, float]] = []
        self._coming: deque[tuple[int, Tensor, Any]] = deque()

    def put(self, step: int, value: Tensor) -> None:
        """Start copying `value`; waits only if more than four copies are in flight, and then for the oldest."""
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
        """(step, value) of every copy finished since the last call; with `wait`, of all that were started."""
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
    """Copies the results of a snapshot's passes to the CPU while training goes on."""

    def __init__(self, results: Mapping[str, Tensor], device: torch.device):
        """Start copying; on CUDA in a stream of its own, which starts once the results are computed."""
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
        """Whether all copies are finished."""
        return self._arrival is None or self._arrival.query()

    def get(self) -> dict[str, np.ndarray]:
        """The results as arrays; waits until they are copied."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return {name: result.cpu().numpy() for name, result in self._results.items()}


def _pinned(result: Tensor, side: Any) -> Tensor:
    landing = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
    landing.copy_(result, non_blocking=True)
    result.record_stream(side)  # keep its memory from being reused before the copy is made
    return landing
