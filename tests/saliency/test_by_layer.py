"""Layer means and shares against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from analysis.saliency.by_layer import layer_means, layer_shares
from analysis.saliency.carriers import carried_ranks


def test_means_have_students_interval():
    scores = np.random.default_rng(0).exponential(size=(4, 30))
    found = layer_means(scores, level=0.9)
    for layer, row in enumerate(scores):
        interval = stats.ttest_1samp(row, 0).confidence_interval(0.9)
        assert found.values_L[layer] == pytest.approx(row.mean())
        assert (found.low_L[layer], found.high_L[layer]) == pytest.approx((interval.low, interval.high))
    assert found.n_L.tolist() == [30] * 4


def test_what_was_not_measured_is_left_out():
    scores = np.array([[1.0, 3.0, np.nan], [np.nan, np.nan, np.nan], [2.0, 2.0, 2.0]])
    found = layer_means(scores)
    assert found.n_L.tolist() == [2, 0, 3]
    np.testing.assert_allclose(found.values_L, [2, np.nan, 2])
    assert found.low_L[2] == found.high_L[2] == 2


def test_shares_are_of_the_units_above_the_threshold():
    ranks = np.array([[0.1, 0.6, 0.9, 0.2], [0.7, 0.8, 0.5, 0.51], [0.0, 0.1, 0.2, 0.3]])
    found = layer_shares(ranks, 0.5)  # two of the first layer, three of the second
    np.testing.assert_allclose(found.values_L, [0.4, 0.6, 0])
    assert found.n_L.tolist() == [2, 3, 0]


def test_shares_have_wilsons_interval():
    ranks = np.zeros((2, 100))
    ranks[0, :30], ranks[1, :10] = 1, 1
    found = layer_shares(ranks, 0.5)
    low, high = stats.binomtest(30, 40).proportion_ci(0.95, method="wilson")
    assert (found.low_L[0], found.high_L[0]) == pytest.approx((low, high))


def test_nothing_above_the_threshold():
    assert np.isnan(layer_shares(np.zeros((2, 3)), 0.5).values_L).all()


def test_scores_of_zero_are_in_no_layers_share():
    scores = np.zeros((4, 100))
    scores[3, :30] = np.arange(1, 31)
    assert layer_shares(carried_ranks(scores), 0.5).values_L.tolist() == [0, 0, 0, 1]
