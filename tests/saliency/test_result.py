"""Ranks, tables, p and q values on numbers that are written down here."""

import numpy as np
import pytest
from scipy import stats

from analysis.errors import ConfigError
from analysis.saliency import Saliency


def make(scores: list[list[float]], **more: object) -> Saliency:
    return Saliency(
        concept="c", method="probeless", scores_LN=np.array(scores), n_concept_tokens=1, n_other_tokens=1, **more
    )


def test_ranks_break_ties_by_index():
    score = make([[0.5, 2.0, 0.5], [3.0, 0.0, 2.0]])
    assert score.order.tolist() == [3, 1, 5, 0, 2, 4]
    assert score.ranks_LN.tolist() == [[3, 1, 4], [0, 5, 2]]


def test_what_was_not_measured_comes_last():
    score = make([[np.nan, 2.0, 0.0], [3.0, np.nan, 2.0]])
    assert score.order.tolist() == [3, 1, 5, 2, 0, 4]
    assert score.n_measured == 4


def test_table_has_one_row_a_neuron():
    table = make([[0.5, 2.0], [3.0, 0.0]]).table()
    assert table.columns.tolist() == ["layer", "neuron", "score", "rank", "rank_saliency"]
    assert table[["layer", "neuron"]].values.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert table["score"].tolist() == [0.5, 2.0, 3.0, 0.0]
    assert table["rank"].tolist() == [2, 1, 0, 3]


def test_table_holds_sign_and_error_where_there_are_any():
    signed = np.array([[-0.5, 2.0]])
    score = make([[0.5, 2.0]], signed_LN=signed, standard_error_LN=np.array([[0.5, 0.1]]), n_independent=9)
    table = score.table()
    assert table["signed"].tolist() == [-0.5, 2.0]
    np.testing.assert_allclose(table["p"], score.p_values().ravel())
    np.testing.assert_allclose(table["q"], score.q_values().ravel())


def effects(n: int = 12) -> tuple[np.ndarray, Saliency]:
    """Effects of 2 x 5 units in n independent examples, two units without any effect, one not measured."""
    values = np.random.default_rng(1).normal(size=(n, 2, 5)) + np.array([[2, 0.7, 0, -0.6, -2], [0, 0, 0.3, 0, 1]])
    values[:, 1, 0] = 0
    values[:, 1, 1] = np.nan
    mean, error = values.mean(0), stats.sem(values, axis=0)
    return values, make(np.abs(mean).tolist(), signed_LN=mean, standard_error_LN=error, n_independent=n)


def test_p_values_are_those_of_a_t_test():
    values, score = effects()
    expected = stats.ttest_1samp(values, 0, axis=0).pvalue
    expected[1, 0] = 1.0  # never moves: nothing speaks against “no effect”
    np.testing.assert_allclose(score.p_values(), expected)
    assert np.isnan(score.p_values()[1, 1])


def test_intervals_are_those_of_a_t_test():
    values, score = effects()
    for level in (0.95, 0.5):
        expected = stats.ttest_1samp(values[:, 0], 0, axis=0).confidence_interval(level)
        low, high = score.interval(level)
        np.testing.assert_allclose(low[0], expected.low)
        np.testing.assert_allclose(high[0], expected.high)


def test_q_values_are_benjamini_and_hochbergs():
    """Step-up by hand: with m tests, q of the i-th smallest p is the least of p_j * m / j over j >= i."""
    _, score = effects()
    p = score.p_values()[np.isfinite(score.p_values())]
    ordered = np.sort(p)
    expected = {value: min(ordered[j] * 9 / (j + 1) for j in range(i, 9)) for i, value in enumerate(ordered)}
    q = score.q_values()
    assert np.isnan(q[1, 1])
    np.testing.assert_allclose(q[np.isfinite(q)], [min(expected[value], 1.0) for value in p])
    assert (q[np.isfinite(q)] >= p).all()


def test_one_example_gives_no_p_value():
    score = make([[1.0]], signed_LN=np.array([[1.0]]), standard_error_LN=np.array([[np.nan]]), n_independent=1)
    assert np.isnan(score.p_values()).all()
    assert np.isnan(score.q_values()).all()


def test_without_an_error_there_is_no_test():
    for ask in (Saliency.p_values, Saliency.q_values, Saliency.interval):
        with pytest.raises(ConfigError, match="probeless gives no standard error"):
            ask(make([[1.0]]))
