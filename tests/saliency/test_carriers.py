"""Ranks and the scales made of them, on numbers that are written down here."""

import numpy as np
import pytest

from analysis.saliency.carriers import (
    carried_ranks,
    carrier_count,
    carrier_threshold,
    lowest_ranks,
    rank_normalise,
    rank_saliency,
    ranks,
)


def test_rank_normalise():
    scaled = rank_normalise(np.array([[0.5, 2.0, 7.0], [3.0, 0.0, -1.0]]))
    np.testing.assert_allclose(scaled, [[0.4, 0.6, 1.0], [0.8, 0.2, 0.0]])
    assert rank_normalise(np.array([[4.0]])).tolist() == [[1.0]]


def test_rank_normalise_breaks_ties_as_the_order_does():
    scores = np.array([[0.5, 2.0, 0.5], [3.0, 0.0, 2.0]])
    np.testing.assert_allclose(rank_normalise(scores), 1 - ranks(scores) / 5)
    many = np.random.default_rng(0).integers(0, 9, (7, 40)).astype(float)
    np.testing.assert_allclose(rank_normalise(many), 1 - ranks(many) / 279)


def test_rank_normalise_leaves_out_what_was_not_measured():
    np.testing.assert_allclose(rank_normalise(np.array([[np.nan, 2.0, 7.0, 1.0]])), [[np.nan, 0.5, 1.0, 0.0]])
    assert np.isnan(rank_normalise(np.full((2, 2), np.nan))).all()


@pytest.mark.parametrize("n", [200, 300, 4608, 46080])
def test_rank_saliency_is_the_papers_formula(n: int):
    scale = rank_saliency(np.arange(n).reshape(2, -1)).ravel()
    for i in {0, 99, 100, 101, n // 2, n - 101, n - 1}:
        p = i // 100 + 1
        assert scale[i] == pytest.approx(abs((p - n / 100) / (1 - n / 100)))
    assert scale[:100].tolist() == [1.0] * 100


@pytest.mark.parametrize("n", [200, 300, 46000])
def test_rank_saliency_falls_from_one_to_zero(n: int):
    scale = rank_saliency(np.arange(n).reshape(1, -1)).ravel()
    assert (scale[0], scale[-1]) == (1.0, 0.0)
    assert (np.diff(scale) <= 0).all()
    assert len(np.unique(scale)) == n // 100


def test_rank_saliency_of_a_tiny_model_has_one_bin():
    assert rank_saliency(np.arange(96).reshape(2, 48)).tolist() == [[1.0] * 48] * 2


def test_equal_scores_share_the_lowest_rank_and_unmeasured_units_have_none():
    np.testing.assert_allclose(lowest_ranks(np.array([[0, 0, 0, 2, 1, np.nan]])), [[0, 0, 0, 1, 0.75, np.nan]])
    assert (lowest_ranks(np.ones((2, 3))) == 0).all()
    scores = np.random.default_rng(0).random((3, 20))
    np.testing.assert_allclose(lowest_ranks(scores), rank_normalise(scores))


def test_scores_of_zero_are_not_ranked_by_their_index():
    scores = np.zeros((4, 100))
    scores[3, :30] = np.arange(1, 31)
    assert (rank_saliency(ranks(scores))[0] > 0.5).any()  # a matter of the index alone
    np.testing.assert_array_equal(carried_ranks(scores) > 0, scores > 0)
    np.testing.assert_array_equal(carried_ranks(scores + 1), rank_saliency(ranks(scores + 1)))


def test_carriers_are_the_top_share():
    scores = np.arange(200.0).reshape(4, 50)
    assert carrier_threshold(scores) == 198
    assert (scores >= carrier_threshold(scores)).sum() == carrier_count(200) == 2
    assert carrier_threshold(scores, 0.25) == 150
    assert carrier_count(5) == 1
