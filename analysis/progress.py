"""How long work tells that it goes on: a callback with the share done, with or without the name of a stage."""

from collections.abc import Callable

__all__ = ["Progress", "ShareDone", "none"]

Progress = Callable[[str, float], None]
"""Called with the name of a stage and the share of it that is done, 0 to 1."""
ShareDone = Callable[[float], None]
"""Called with the share done, 0 to 1, by work that has a single stage."""


def none(stage: str, share: float) -> None:
    """A `Progress` that does nothing."""
