"""Profiles and priming on numbers made by hand, and against other ways to compute them."""

import numpy as np
import pytest
from scipy import stats

from analysis.errors import ConfigError
from analysis.saliency import Saliency, rank_normalise
from analysis.saliency.concept_profiles import BCA_LIMIT, ConceptProfiles, concept_profiles, priming


def saliency_of(concept: str, scores: np.ndarray, method: str = "standardised") -> Saliency:
    return Saliency(concept=concept, method=method, scores_LN=scores, n_concept_tokens=2, n_other_tokens=2)


def profiles(ranks: list[list[float]]) -> ConceptProfiles:
    """One list a concept, one layer."""
    names = tuple("abcd"[: len(ranks)])
    return ConceptProfiles(concepts=names, method="standardised", ranks_CLN=np.array(ranks)[:, None, :])


def test_ranks_are_those_of_saliency_where_scores_differ():
    scores = np.random.default_rng(0).random((3, 20))
    found = concept_profiles([saliency_of("a", scores), saliency_of("b", -scores)])
    np.testing.assert_allclose(found.ranks_CLN[0], rank_normalise(scores))
    np.testing.assert_allclose(found.ranks_CLN[1], 1 - rank_normalise(scores))
    assert found.concepts == ("a", "b")


def test_equal_scores_share_the_lowest_rank_and_unmeasured_units_have_none():
    scores = np.array([[0, 0, 0, 2, 1, np.nan]], dtype=float)
    found = concept_profiles([saliency_of("a", scores), saliency_of("b", np.ones((1, 6)))])
    np.testing.assert_allclose(found.ranks_CLN[0, 0], [0, 0, 0, 1, 0.75, np.nan])
    np.testing.assert_array_equal(found.ranks_CLN[1, 0], np.zeros(6))
    assert found.count(0.5)[0].tolist()[:5] == [0, 0, 0, 1, 1]
    assert np.isnan(found.count()[0, 5])
    assert np.isnan(found.entropy()[0, 5])


def test_entropy_in_bits():
    found = profiles([[1, 1, 1, 0.5, 1], [0, 1, 0.75, 0.5, 0.4], [0, 1, 0.6, 0.2, 1], [0, 1, 0.5, 0, 0.5]])
    entropy = found.entropy()[0]
    np.testing.assert_allclose(entropy[[0, 1, 4]], [0, 2, 1])
    assert entropy[2] == pytest.approx(stats.entropy([0.5, 0.25, 0.1], base=2))
    assert np.isnan(entropy[3])  # carries nothing above the median
    assert found.entropy(floor=0)[0, 3] == pytest.approx(stats.entropy([0.5, 0.5, 0.2], base=2))
    assert np.signbit(entropy[0]) == np.False_
    assert found.count(0.9)[0].tolist() == [1, 4, 1, 0, 2]


def test_expected_share_is_that_of_unrelated_concepts():
    random = np.random.default_rng(1)
    found = concept_profiles([saliency_of(name, random.random((10, 2000))) for name in "abcde"])
    for at_least in (1, 2, 3):
        expected = found.expected_share(at_least, 0.8)
        assert found.share(at_least, 0.8) == pytest.approx(expected, abs=0.01)
    assert found.expected_share(5, 0.9) == pytest.approx(0.1**5)


def test_shared_neurons_raise_the_share_but_not_the_mean_count():
    random = np.random.default_rng(1)
    same = random.random((10, 2000))
    alone = concept_profiles([saliency_of(name, random.random((10, 2000))) for name in "abcd"])
    shared = concept_profiles([saliency_of(name, same) for name in "abcd"])
    assert shared.share() == pytest.approx(0.1, abs=1e-3)
    assert alone.share() < 0.06
    assert shared.count().mean() == alone.count().mean() == pytest.approx(0.4, abs=1e-3)


def test_unmeasured_units_do_not_count_in_the_share():
    assert profiles([[1, 0, np.nan], [1, 0, 1]]).share() == 0.5


def test_the_table_of_profiles():
    table = profiles([[1, 0.2], [0.95, 0.1]]).table()
    assert table.columns.tolist() == ["layer", "neuron", "rank of a", "rank of b", "n_concepts", "entropy"]
    assert table["n_concepts"].tolist() == [2, 0]


def test_profiles_need_comparable_results():
    ones = np.ones((1, 4))
    with pytest.raises(ConfigError, match="two or more different"):
        concept_profiles([saliency_of("a", ones)])
    with pytest.raises(ConfigError, match="two or more different"):
        concept_profiles([saliency_of("a", ones), saliency_of("a", ones)])
    with pytest.raises(ConfigError, match="differ in method"):
        concept_profiles([saliency_of("a", ones), saliency_of("b", ones, "probeless")])
    with pytest.raises(ConfigError, match="differ in method"):
        concept_profiles([saliency_of("a", ones), saliency_of("b", np.ones((2, 4)))])
    with pytest.raises(ConfigError, match="threshold is 90"):
        profiles([[1], [0]]).count(90)
    with pytest.raises(ConfigError, match="floor is 1"):
        profiles([[1], [0]]).entropy(floor=1)


def pairs(n: int, effect: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    return x, effect * x + random.normal(size=n)


@pytest.mark.parametrize(("n", "interval"), [(60, "BCa"), (BCA_LIMIT + 1, "percentile")])
def test_priming_is_spearman_with_an_interval_around_it(n: int, interval: str):
    x, y = pairs(n, 1.0)
    found = priming(x, np.exp(y), n_resamples=400)  # a monotone change of scale leaves ranks alone
    assert found.correlation == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.low < found.correlation < found.high
    assert (found.n, found.interval, found.n_resamples, found.level) == (n, interval, 400, 0.95)
    # Bonett & Wright's (2000) standard error on Fisher's scale, an interval made in another way
    half = 1.96 * np.sqrt((1 + found.correlation**2 / 2) / (n - 3))
    expected = np.tanh(np.arctanh(found.correlation) + np.array([-half, half]))
    assert found.high - found.low == pytest.approx(expected[1] - expected[0], rel=0.25)


def test_priming_of_unrelated_values_contains_zero():
    x, y = pairs(200, 0.0, seed=3)
    found = priming(x, y, n_resamples=400)
    assert found.low < 0 < found.high


def test_priming_leaves_out_what_is_not_measured_and_repeats_itself():
    x, y = pairs(50, 1.0)
    whole = priming(x, y, n_resamples=200)
    holes = priming(np.append(x, [np.nan, 1.0]), np.append(y, [1.0, np.nan]), n_resamples=200)
    assert holes == whole
    assert priming(x, y, n_resamples=200, seed=1).low != whole.low


def test_priming_refuses_what_cannot_correlate():
    x, y = pairs(20, 1.0)
    with pytest.raises(ConfigError, match="20 similarities but 19"):
        priming(x, y[:19])
    with pytest.raises(ConfigError, match="Only 4 neurons"):
        priming(x[:4], y[:4])
    with pytest.raises(ConfigError, match="nothing correlates"):
        priming(x, np.zeros(20))
    with pytest.raises(ConfigError, match="confidence level"):
        priming(x, y, level=95)
    with pytest.raises(ConfigError, match="at least 100"):
        priming(x, y, n_resamples=10)
