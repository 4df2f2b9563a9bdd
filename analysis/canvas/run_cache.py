"""Caches what the canvas reads and computes from runs, once for all sessions of the dashboard.

Committed snapshots never change, so neither does anything computed from them.

Axes: `C` concept, `L` layer, `N` neuron in a layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from analysis import migration
from analysis.canvas.shared_cache import SharedCache
from analysis.jobs import layout
from analysis.relearning import RunFacts, Snapshot
from analysis.runs import RunDirectory
from analysis.saliency.carriers import carrier_threshold

__all__ = ["CACHE", "View", "cached", "facts", "mass", "scaled", "snapshot", "threshold"]

T = TypeVar("T")

CACHE = SharedCache(256 * 2**20)
"""Holds snapshots and what is computed from them, for all sessions of this dashboard."""


@dataclass(frozen=True)
class View:
    """What the user chose to see: concepts, and the mode, scale and order of the map."""

    concepts: tuple[str, ...]
    mode: str = "since the edit"
    scale: str = "standardised"
    order: str = "before the edit"


def snapshot(run_path: Path, index: int) -> Snapshot:
    """A committed snapshot, read once."""
    return cached(run_path, ("snapshot", index), lambda: RunDirectory(run_path).snapshot(index), _snapshot_bytes)


def cached(run_path: Path, key: tuple, make: Callable[[], T], size: Callable[[T], int]) -> T:
    """A value computed from one run, from the shared cache; computed anew if another run has replaced the folder."""
    written = (run_path / layout.CONFIG).stat().st_mtime_ns
    return CACHE.get((run_path, written, *key), make, size)


def facts(run: RunDirectory) -> RunFacts | None:
    """The facts and components that the run chose at its start, read once; None before that."""
    try:
        written = (run.path / layout.FACTS).stat().st_mtime_ns
    except FileNotFoundError:
        return None
    return cached(run.path, ("facts", written), run.facts, lambda _: 2**16)


def scaled(run_path: Path, index: int, concept: str, scale: str) -> np.ndarray:
    """The saliency of one concept in one snapshot on a scale, [L, N]; only ranks are cached, the other scales are cheap."""
    if scale != "rank":
        return migration.scaled(snapshot(run_path, index), concept, scale)
    return cached(
        run_path,
        ("scaled", index, concept, scale),
        lambda: migration.scaled(snapshot(run_path, index), concept, scale),
        lambda scores: scores.nbytes,
    )


def mass(run_path: Path, index: int, view: View) -> np.ndarray:
    """Layer mass of every shown concept in one snapshot, [C, L]."""
    return cached(
        run_path,
        ("mass", view.concepts, view.scale, index),
        lambda: np.stack([migration.layer_mass(scaled(run_path, index, name, view.scale)) for name in view.concepts]),
        lambda made: made.nbytes,
    )


def threshold(run: RunDirectory, name: str, scale: str) -> float:
    """The score from which a neuron counts as a carrier of the concept."""
    return cached(
        run.path,
        ("threshold", name, scale),
        lambda: carrier_threshold(scaled(run.path, 0, name, scale)),
        lambda _: 64,
    )


def _snapshot_bytes(taken: Snapshot) -> int:
    return 4096 + sum(scores.nbytes for methods in taken.saliency.values() for scores in methods.values())
