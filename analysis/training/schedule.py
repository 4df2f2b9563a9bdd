"""Helpers of every training loop: drawing texts, learning-rate schedules, seeding, and a check of the loss."""

import math
import random
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch

from analysis.errors import ConceptError, ConfigError

__all__ = ["SCHEDULES", "Deck", "check_loss", "learning_share", "reproducible"]

SCHEDULES = ("constant", "linear", "cosine")
"""How the learning rate changes after the warm-up."""

T = TypeVar("T")


class Deck(Generic[T]):
    """Draws texts without replacement; reshuffles when they run out."""

    def __init__(self, what: str, rows: Sequence[T], seed: int):
        """Shuffle the rows.

        Args:
            what: Name of a row, for the error message.
            rows: The texts, without those of a single token.
            seed: Determines the order of all draws.

        Raises:
            ConceptError: there is no row.
        """
        self._rows = list(rows)
        if not self._rows:
            raise ConceptError(f"No {what} has two tokens or more, so there is nothing to train on. Add longer texts.")
        self._random = random.Random(seed)
        self._left: list[T] = []
        self.drawn = 0
        """Number of rows drawn so far; with the seed it determines the deck's state."""

    def draw(self, count: int) -> list[T]:
        """The next `count` rows."""
        drawn = []
        for _ in range(count):
            if not self._left:
                self._left = self._random.sample(self._rows, len(self._rows))
            drawn.append(self._left.pop())
        self.drawn += count
        return drawn


def check_loss(loss: float, learning_rate: float) -> None:
    """Check that the loss is finite.

    Raises:
        ConfigError: the loss is infinite or NaN.
    """
    if not math.isfinite(loss):
        raise ConfigError(f"Training diverged (the loss is {loss}). Lower the learning rate, now {learning_rate:g}.")


def learning_share(schedule: str, step: int, steps: int, warmup: int = 0) -> float:
    """The factor on the learning rate at `step` (from 1) of `steps`.

    It rises linearly over the `warmup` steps, is 1 at the step after them, and then stays (constant) or falls, linearly
    or along a half cosine, so that it would reach 0 at the step after the last.

    Raises:
        ConfigError: the schedule is unknown.
    """
    if schedule not in SCHEDULES:
        raise ConfigError(f"“{schedule}” is not a schedule. Use {', '.join(SCHEDULES)}.")
    if step <= warmup:
        return step / (warmup + 1)
    done = (step - 1 - warmup) / (steps - warmup)
    if schedule == "linear":
        return 1 - done
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1.0


class reproducible:
    """Seeds everything and, on CUDA, asks for deterministic kernels; restores these settings afterwards."""

    def __init__(self, seed: int, device: torch.device):
        self.seed, self.cuda = seed, device.type == "cuda"

    def __enter__(self) -> None:
        torch.manual_seed(self.seed)
        self.before = torch.are_deterministic_algorithms_enabled()
        if self.cuda:
            torch.use_deterministic_algorithms(True, warn_only=True)
            # warn_only leaves this kernel on, whose backward pass sums in no fixed order
            self.efficient = torch.backends.cuda.mem_efficient_sdp_enabled()
            torch.backends.cuda.enable_mem_efficient_sdp(False)

    def __exit__(self, *details: object) -> None:
        if self.cuda:
            torch.use_deterministic_algorithms(self.before)
            torch.backends.cuda.enable_mem_efficient_sdp(self.efficient)
