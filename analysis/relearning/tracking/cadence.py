"""Decides when snapshots are taken: every n steps, at each doubling of the step, or as often as time allows."""

from collections.abc import Sequence

__all__ = ["LEAST_SNAPSHOTS", "Cadence", "planned_steps", "tracking_share"]

LEAST_SNAPSHOTS = 8
"""Training snapshots that an adaptive cadence takes at least, at density 1."""
_PER_DOUBLING = 2


def planned_steps(cadence: str, steps: int, every: int, density: float = 1.0) -> tuple[int, ...]:
    """The steps that are certain to get a snapshot, ascending; the last step is always one of them.

    Args:
        cadence: “steps”, “log” or “adaptive”.
        steps: Training steps of the whole run.
        every: Steps between snapshots, for “steps”.
        density: Multiplies the number of snapshots.
    """
    if cadence == "steps":
        chosen = range(0, steps + 1, max(round(every / density), 1))
    elif cadence == "log":
        per_doubling = _PER_DOUBLING * density
        chosen = [round(2 ** (k / per_doubling)) for k in range(int(per_doubling * steps.bit_length()) + 1)]
    else:
        count = max(round(LEAST_SNAPSHOTS * density), 1)
        chosen = [round(steps * k / count) for k in range(1, count + 1)]
    return tuple(sorted({step for step in (*chosen, steps) if 1 <= step <= steps}))


def tracking_share(share: float | None, device_type: str) -> float:
    """Share of the training time that snapshots may take: `share` if set, else the default of the device type."""
    return share if share is not None else 0.05 if device_type == "cuda" else 0.10


class Cadence:
    """Decides after each step whether a snapshot is due, from the time that training and tracking took so far."""

    def __init__(self, planned: Sequence[int], share: float | None):
        """Start with no time spent.

        Args:
            planned: Steps that are certain to get a snapshot.
            share: Share of the training time for further snapshots; None takes no further ones.
        """
        self.planned, self.share = frozenset(planned), share
        self.training = 0.0
        """Seconds spent on training steps."""
        self.tracking = 0.0
        """Seconds spent on snapshots, without those before the first step."""
        self.last: float | None = None
        """Seconds that the last snapshot took; None before there was one."""

    def due(self, step: int) -> bool:
        """Whether a snapshot is due after `step`: it is planned, or one as long as the last would stay within the share."""
        if step in self.planned:
            return True
        if self.share is None or self.last is None:
            return False
        return self.tracking + self.last <= self.share * self.training

    def tracked(self, seconds: float) -> None:
        """Count the seconds that a snapshot took."""
        self.last = seconds
        self.tracking += seconds
