"""The transport plan against a linear program, scipy's distance, and shifts known by construction."""

import numpy as np
import pytest
from scipy import optimize, stats

from analysis import migration
from analysis.errors import ConfigError


def _random(seed: int, layers: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    before, after = rng.gamma(1.0, 1.0, layers), rng.gamma(1.0, 1.0, layers)
    before[rng.integers(layers)] = 0.0
    return before * 3, after


def _cheapest(before: np.ndarray, after: np.ndarray) -> float:
    """The optimal cost by linear programming over all plans."""
    n = len(before)
    places = np.arange(n)
    cost = np.abs(places[:, None] - places[None, :]).ravel()
    rows = np.kron(np.eye(n), np.ones(n))
    columns = np.kron(np.ones(n), np.eye(n))
    found = optimize.linprog(
        cost, A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([before / before.sum(), after / after.sum()])
    )
    return found.fun


@pytest.mark.parametrize("seed", range(5))
def test_the_plan_has_the_right_marginals_and_the_least_cost(seed: int):
    before, after = _random(seed)
    plan = migration.transport(before, after)
    p, q = before / before.sum(), after / after.sum()
    assert (plan.moved_LL >= 0).all()
    assert np.allclose(p - plan.moved_LL.sum(axis=1), q - plan.moved_LL.sum(axis=0))  # what stays is the same mass
    assert np.allclose(p - plan.moved_LL.sum(axis=1), np.minimum(p, q))  # and as much as can stay
    places = np.arange(len(p))
    assert plan.distance == pytest.approx(stats.wasserstein_distance(places, places, p, q))
    assert plan.distance == pytest.approx(_cheapest(before, after), abs=1e-9)
    assert plan.distance == pytest.approx(migration.wasserstein(before, after))
    assert (plan.moved_LL * (places[None, :] - places[:, None])).sum() == pytest.approx((q - p) @ places)


def test_a_shift_by_two_layers_costs_two():
    plan = migration.transport(np.array([1.0, 1, 0, 0]), np.array([0.0, 0, 5, 5]))
    assert plan.distance == pytest.approx(2.0)
    assert plan.share == pytest.approx(1.0)
    assert plan.moved_LL[0, 2] == plan.moved_LL[1, 3] == pytest.approx(0.5)
    assert np.count_nonzero(plan.moved_LL) == 2


def test_nothing_moves_between_equal_distributions():
    plan = migration.transport(np.array([1.0, 2, 3]), np.array([10.0, 20, 30]))
    assert plan.share == pytest.approx(0.0, abs=1e-15)


def test_a_run_that_moves_like_its_control_has_no_net_flow():
    before, after = np.array([4.0, 4, 2]), np.array([2.0, 4, 4])
    plan = migration.net_transport(before, after, before * 7, after * 7)
    assert plan.distance == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_net_flux_over_every_boundary_is_the_runs_less_the_controls(seed: int):
    run, control = _random(seed), _random(seed + 100)

    def flux(plan: np.ndarray) -> list[float]:
        """Mass that crosses from below a boundary to above it, less what crosses back."""
        n = len(plan)
        return [plan[:at, at:].sum() - plan[at:, :at].sum() for at in range(1, n)]

    net = migration.net_transport(*run, *control)
    expected = np.subtract(flux(migration.transport(*run).moved_LL), flux(migration.transport(*control).moved_LL))
    assert np.allclose(flux(net.moved_LL), expected)
    assert net.distance == pytest.approx(np.abs(expected).sum())


def test_the_control_is_read_between_its_snapshots():
    steps, mass = np.array([0.0, 4.0]), np.array([[1.0, 3.0], [5.0, 1.0]])
    assert migration.interpolated(steps, mass, 1.0) == pytest.approx([2.0, 2.5])
    assert migration.interpolated(steps, mass, 4.5) is None
    assert migration.interpolated(np.array([]), np.empty((0, 2)), 0) is None


@pytest.mark.parametrize("mass", [np.zeros(3), np.array([1.0, -1, 2]), np.array([1.0, np.nan, 2])])
def test_what_is_no_distribution_is_refused(mass: np.ndarray):
    with pytest.raises(ConfigError, match="not a distribution"):
        migration.transport(mass, np.ones(3))
