"""Computes the half-life: the training steps after which half of what the edit removed is regained."""

from collections.abc import Sequence

__all__ = ["half_life"]


def half_life(steps: Sequence[float], values: Sequence[float], *, before: float) -> float | None:
    """Steps until half of what the edit removed is regained, interpolated between snapshots; None if it never is.

    Args:
        steps: Training steps, starting with 0 right after the edit.
        values: P(answer) at these steps.
        before: P(answer) before the edit.
    """
    goal = values[0] + (before - values[0]) / 2
    if before <= values[0]:
        return None  # the edit removed nothing
    for i in range(1, len(values)):
        if values[i] >= goal:
            share = (goal - values[i - 1]) / (values[i] - values[i - 1])
            return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))
    return None
