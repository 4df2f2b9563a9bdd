"""When snapshots are taken."""

from dataclasses import replace

import pytest

from analysis.relearning import RelearnConfig
from analysis.relearning.tracking.cadence import Cadence, planned_steps, tracking_share

CONFIG = RelearnConfig(model="m", concept="c")


@pytest.mark.parametrize(
    ("cadence", "steps", "every", "density", "expected"),
    [
        ("steps", 7, 3, 1.0, (3, 6, 7)),
        ("steps", 7, 3, 0.5, (6, 7)),
        ("steps", 2, 9, 1.0, (2,)),
        ("log", 24, 1, 1.0, (1, 2, 3, 4, 6, 8, 11, 16, 23, 24)),
        ("log", 24, 1, 0.5, (1, 2, 4, 8, 16, 24)),
        ("log", 1, 1, 1.0, (1,)),
        ("log", 64, 1, 0.5, (1, 2, 4, 8, 16, 32, 64)),
        ("adaptive", 24, 1, 1.0, (3, 6, 9, 12, 15, 18, 21, 24)),
        ("adaptive", 24, 1, 0.5, (6, 12, 18, 24)),
        ("adaptive", 5, 1, 1.0, (1, 2, 3, 4, 5)),
        ("adaptive", 1000, 1, 1.0, (125, 250, 375, 500, 625, 750, 875, 1000)),
    ],
)
def test_planned_steps(cadence: str, steps: int, every: int, density: float, expected: tuple[int, ...]):
    assert planned_steps(cadence, steps, every, density) == expected


def test_the_default_demo_keeps_its_snapshots():
    """Two before training, eight after, on whatever machine; the control has half of the eight."""
    assert CONFIG.steps == 24
    assert len(CONFIG.snapshot_steps) == 8
    assert CONFIG.as_control().snapshot_steps == (6, 12, 18, 24)
    assert CONFIG.n_snapshots is None
    assert replace(CONFIG, cadence="steps").n_snapshots == 10
    assert replace(CONFIG, cadence="log", edit=None).n_snapshots == 11


def test_adaptive_snapshots_take_no_more_than_their_share():
    """Steps of 1 s and snapshots of 4 s at a share of 0.1: one in 40 steps beside the planned ones."""
    cadence = Cadence((200,), 0.1)
    cadence.last = 4.0
    taken = []
    for step in range(1, 201):
        cadence.training += 1.0
        if cadence.due(step):
            taken.append(step)
            cadence.tracked(4.0)
        assert step == 200 or cadence.tracking <= 0.1 * cadence.training + 1e-9
    assert taken == [40, 80, 120, 160, 200]


def test_without_a_share_or_a_known_cost_only_the_planned_steps_are_taken():
    for cadence in (Cadence((3, 6), None), Cadence((3, 6), 0.5)):
        cadence.training = 1e9
        if cadence.share is None:
            cadence.last = 0.1
        assert [step for step in range(1, 8) if cadence.due(step)] == [3, 6]


def test_the_share_depends_on_the_device_unless_it_is_set():
    assert (tracking_share(None, "cuda"), tracking_share(None, "cpu"), tracking_share(0.3, "cuda")) == (0.05, 0.1, 0.3)
