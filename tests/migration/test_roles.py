"""Who carries what, by hand."""

import numpy as np
import pytest
from scipy import stats

from analysis import migration
from analysis.components.neurons import Neuron, NeuronSet
from analysis.relearning import Snapshot


def _snapshot(words: dict[int, tuple[str, ...]] | None = None, **scores: np.ndarray) -> Snapshot:
    return Snapshot(
        index=0,
        phase="training",
        step=1,
        seconds=0.0,
        loss=None,
        p_retrained_F=np.array([0.5]),
        p_held_out_F=np.array([0.25]),
        neutral_loss=3.0,
        saliency={name: {"probeless": np.asarray(one, np.float32)} for name, one in scores.items()},
        words=words or {},
    )


def test_the_strongest_other_concept_is_counted_in_multiples_of_its_own_threshold():
    scores = np.array([[1.0, 8.0, 3.9], [1.0, 5.0, 0.0]])
    found = migration.strongest_other(scores, [4.0, 2.0])
    assert found.tolist() == [migration.NO_OTHER, 1, migration.NO_OTHER]  # 2x and 2.5x: the second concept
    assert migration.strongest_other(np.empty((0, 3)), []).tolist() == [migration.NO_OTHER] * 3


def test_carriers_are_told_with_what_else_they_carry_and_their_words():
    shape = (2, 100)
    base = np.zeros(shape)
    base[0, :2] = 10, 9  # the top 1% of 200 neurons: the threshold is 9
    other = np.zeros(shape)
    other[1, :2] = 7, 6
    now, other_now = base.copy(), other.copy()
    now[0, 1], now[1, 5], now[1, 0] = 12, 20, 11
    other_now[1, 5] = 6.5
    reference = base.copy()
    reference[0, 0] = 0
    table = migration.carriers_table(
        _snapshot({105: ("old", "words")}, thing=base, other=other),
        _snapshot(thing=reference, other=other),
        _snapshot({105: ("new", "words")}, thing=now, other=other_now),
        "thing",
        NeuronSet([0], shape),
        "raw",
        {"other": "Other things"},
    )
    assert table["neuron"].tolist() == ["L1.N5", "L0.N1", "L1.N0"]
    assert table["role"].tolist() == ["recruit", "survivor", "recruit"]
    assert table["also_carries"].tolist() == [["Other things"], [], ["Other things"]]
    assert table["words_before"].tolist() == ["old words", "", ""]
    assert table["words_now"].tolist() == ["new words", "", ""]
    assert table["score_edited"].tolist() == [0, 9, 0]


@pytest.mark.parametrize(("name", "role"), [("L0.N0", "reversed"), ("L0.N1", "survivor"), ("L1.N1", "other")])
def test_a_neurons_role(name: str, role: str):
    found = migration.Roles(recruits=NeuronSet([2], (2, 2)), survivors=NeuronSet([1], (2, 2)))
    neuron = next(iter(NeuronSet.parse(name, (2, 2))))
    assert migration.role_of(neuron, found, NeuronSet([0], (2, 2)), "reversed") == role
    assert migration.role_of(Neuron(1, 0), found, NeuronSet([0], (2, 2))) == "recruit"


def test_priming_leaves_out_the_edited_and_correlates_ranks():
    rng = np.random.default_rng(0)
    base = rng.random((4, 50))
    now = base + 0.3 * rng.random((4, 50))
    now[0, :10] = 0  # edited: would lower the correlation if they counted
    found = migration.primed(
        _snapshot(thing=base), _snapshot(thing=now), "thing", "raw", NeuronSet(range(10), (4, 50)), n_resamples=100
    )
    expected = stats.spearmanr(np.float32(base).ravel()[10:], np.float32(now).ravel()[10:]).statistic  # pyright: ignore
    assert found.priming.correlation == pytest.approx(expected)
    assert found.priming.low < expected < found.priming.high
    assert found.priming.n == 190 == len(found.neurons)
    order = np.argsort(base, axis=None)
    ranks = np.empty(200)
    ranks[order] = np.arange(200) / 199
    assert found.before_K == pytest.approx(ranks[10:])


def test_ranks_taken_once_give_the_interval_of_ranks_taken_anew():
    rng = np.random.default_rng(3)
    base = rng.random((20, 100))
    now = base + rng.random((20, 100))
    nobody = NeuronSet([], (20, 100))
    quick = migration.primed(_snapshot(thing=base), _snapshot(thing=now), "thing", "raw", nobody, n_resamples=1000)
    draws = rng.integers(0, 2000, (1000, 2000))
    exact = [stats.spearmanr(base.ravel()[draw], now.ravel()[draw]).statistic for draw in draws]  # pyright: ignore
    assert quick.priming.correlation == pytest.approx(stats.spearmanr(base.ravel(), now.ravel()).statistic)  # pyright: ignore
    low, high = np.quantile(exact, [0.025, 0.975])
    assert quick.priming.low == pytest.approx(low, abs=0.15 * (high - low))
    assert quick.priming.high == pytest.approx(high, abs=0.15 * (high - low))
