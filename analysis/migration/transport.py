"""Measures how far a concept's saliency mass moved between layers, and from which layers to which.

The layers are points on a line, one apart; a concept's mass in them, made to sum to 1, is a distribution on that line.
Between two of them the Wasserstein distance is the least mean number of layers that mass has to move. On a line an
optimal plan is known in closed form (match the cumulative distributions), so no search is needed. Several plans can be
optimal: the one below leaves in place whatever both distributions share, because mass that need not move should not be
drawn as moving.

Axes: `T` snapshot, `L` layer.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.errors import ConfigError

__all__ = ["Transport", "distribution", "interpolated", "net_transport", "transport", "wasserstein"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Transport:
    """An optimal-transport plan between two distributions over layers."""

    moved_LL: np.ndarray
    """Share of all mass that moves from the row's layer to the column's, float64; the diagonal is 0."""
    distance: float
    """Layers that a unit of mass moves on average: what the plan costs."""

    @property
    def share(self) -> float:
        """Share of all mass that moves at all."""
        return float(self.moved_LL.sum())


def distribution(mass_L: np.ndarray) -> np.ndarray:
    """The mass of every layer as a share of all, [L].

    Raises:
        ConfigError: a mass is negative or not finite, or all are 0.
    """
    mass_L = np.asarray(mass_L, dtype=np.float64)
    if not np.isfinite(mass_L).all() or (mass_L < 0).any() or not mass_L.sum() > 0:
        raise ConfigError(
            "The mass of the layers is not a distribution: it must be finite, not negative, and not all 0."
        )
    return mass_L / mass_L.sum()


def wasserstein(before_L: np.ndarray, after_L: np.ndarray) -> float:
    """Wasserstein-1 distance between two layer masses, in layers (`scipy.stats.wasserstein_distance`).

    Raises:
        ConfigError: one of them is no distribution.
    """
    places = np.arange(len(before_L))
    return float(stats.wasserstein_distance(places, places, distribution(before_L), distribution(after_L)))


def transport(before_L: np.ndarray, after_L: np.ndarray) -> Transport:
    """The plan that turns one layer mass into another at the least cost; both are made to sum to 1.

    Raises:
        ConfigError: one of them is no distribution.
    """
    return _plan(distribution(after_L) - distribution(before_L))


def net_transport(
    before_L: np.ndarray, after_L: np.ndarray, control_before_L: np.ndarray, control_after_L: np.ndarray
) -> Transport:
    """The plan for what moved beyond what moved in the control run: training moves mass without any edit, too.

    The control's change of distribution is subtracted from the run's. So the flux over every boundary between layers is
    the run's minus the control's, and a run that moves exactly like its control has an empty plan.

    Raises:
        ConfigError: one of the four is no distribution.
    """
    change_L = distribution(after_L) - distribution(before_L)
    return _plan(change_L - (distribution(control_after_L) - distribution(control_before_L)))


def interpolated(steps_T: np.ndarray, mass_TL: np.ndarray, step: float) -> np.ndarray | None:
    """Layer mass of a run at any step, linear between its snapshots, [L]; None before its first or after its last.

    Args:
        steps_T: Ascending training steps.
        mass_TL: Layer mass at those steps.
        step: Where to read.
    """
    if not len(steps_T) or not steps_T[0] <= step <= steps_T[-1]:
        return None
    return np.array([np.interp(step, steps_T, mass_T) for mass_T in np.asarray(mass_TL).T])


def _plan(change_L: np.ndarray) -> Transport:
    """Move mass from layers that lose to layers that gain, in order of layers: the monotone coupling."""
    given_L, taken_L = np.maximum(-change_L, 0), np.maximum(change_L, 0)
    given_ends_L, taken_ends_L = np.cumsum(given_L), np.cumsum(taken_L)
    ends_LL = np.minimum(given_ends_L[:, None], taken_ends_L[None, :])
    starts_LL = np.maximum((given_ends_L - given_L)[:, None], (taken_ends_L - taken_L)[None, :])
    moved_LL = np.maximum(ends_LL - starts_LL, 0)
    # a layer either loses or gains, so a nonzero diagonal can only be rounding
    np.fill_diagonal(moved_LL, 0)
    places = np.arange(len(change_L))
    return Transport(moved_LL=moved_LL, distance=float((moved_LL * np.abs(places[:, None] - places[None, :])).sum()))
