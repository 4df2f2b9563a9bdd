"""Migration measures against values worked out by hand."""

import math

import numpy as np
import pytest

from analysis import migration
from analysis.components.neurons import NeuronSet
from analysis.errors import ConfigError
from analysis.relearning import Snapshot


def _snapshot(scores_LN: np.ndarray, phase: str = "base", step: int = 0) -> Snapshot:
    scores = np.asarray(scores_LN, dtype=np.float32)
    return Snapshot(
        index=0,
        phase=phase,  # type: ignore[arg-type]
        step=step,
        seconds=0.0,
        loss=None,
        p_retrained_F=np.array([0.5]),
        p_held_out_F=np.array([0.25]),
        neutral_loss=3.0,
        saliency={"thing": {"probeless": scores, "standardised": scores * 2}},
    )


def test_layer_mass_and_centre():
    scores = np.array([[1.0, 1.0], [0.0, 2.0], [4.0, 0.0]])
    assert migration.layer_mass(scores).tolist() == [2, 2, 4]
    assert migration.centre_of_mass(scores) == pytest.approx((0 * 2 + 1 * 2 + 2 * 4) / 8)
    assert math.isnan(migration.centre_of_mass(np.zeros((3, 2))))


def test_centre_of_carriers_counts_each_once():
    scores = np.arange(200.0).reshape(4, 50)
    assert migration.centre_of_carriers(scores, 0.25) == 3.0


def test_roles_tell_recruits_survivors_and_edited_apart():
    reference = np.array([[0.0, 5.0, 5.0, 1.0]])
    now = np.array([[9.0, 6.0, 4.5, 7.0]])
    found = migration.roles(now, reference, NeuronSet([0], (1, 4)), threshold=4.0)
    assert found.recruits.format() == "L0.N3"
    assert found.survivors.format() == "L0.N1"  # N2 still carries, but lost; N0 was edited


@pytest.mark.parametrize(
    ("steps", "values", "before", "expected"),
    [
        ([0, 2, 4], [0.0, 0.2, 0.6], 0.8, 3.0),
        ([0, 2], [0.0, 0.4], 0.8, 2.0),
        ([0, 2, 4], [0.0, 0.1, 0.2], 0.8, None),
        ([0, 2], [0.8, 0.9], 0.8, None),
        ([0, 10], [0.2, 1.0], 0.6, 2.5),
    ],
)
def test_half_life(steps, values, before, expected):
    found = migration.half_life(steps, values, before=before)
    assert found == (None if expected is None else pytest.approx(expected))


def test_scales():
    snapshot = _snapshot(np.array([[0.0, 3.0], [1.0, 2.0]]))
    assert migration.scaled(snapshot, "thing", "raw").tolist() == [[0, 3], [1, 2]]
    assert migration.scaled(snapshot, "thing", "standardised").tolist() == [[0, 6], [2, 4]]
    assert migration.scaled(snapshot, "thing", "rank").ravel() == pytest.approx([0, 1, 1 / 3, 2 / 3])
    with pytest.raises(ConfigError, match="not a scale"):
        migration.scaled(snapshot, "thing", "logarithmic")
    with pytest.raises(ConfigError, match="was not tracked"):
        migration.scaled(snapshot, "other", "raw")


def test_recruits_table_lists_the_strongest_first():
    base = _snapshot(np.arange(200.0).reshape(4, 50))
    reference, now = np.zeros((4, 50)), np.zeros((4, 50))
    now[1, 2], now[3, 4], now[0, 0] = 198, 500, 50
    table = migration.recruits_table(base, _snapshot(reference), _snapshot(now), "thing", NeuronSet([], (4, 50)), "raw")
    assert table["neuron"].tolist() == ["L3.N4", "L1.N2"]
    assert table["score_now"].tolist() == [500, 198]
    assert table["rank of thing before"].tolist() == pytest.approx([154 / 199, 52 / 199])
