"""Intervals against SciPy, resamples against their definition."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from analysis.stats import resample_counts, wilson


@pytest.mark.parametrize(("right", "n"), [(8, 10), (0, 7), (7, 7), (1, 1000)])
def test_wilsons_interval_is_that_of_scipy(right: int, n: int):
    low, high = wilson(np.array([right / n]), n)
    expected = scipy_stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert (low[0], high[0]) == (pytest.approx(expected.low, abs=1e-7), pytest.approx(expected.high, abs=1e-7))


def test_another_level():
    z = scipy_stats.norm.ppf(0.95)
    expected = scipy_stats.binomtest(3, 9).proportion_ci(0.9, method="wilson")
    assert [float(end[0]) for end in wilson(np.array([1 / 3]), 9, z)] == pytest.approx([expected.low, expected.high])


def test_a_resample_draws_as_many_cases_as_there_are():
    counts_RS = resample_counts(12, 500, seed=3)
    assert counts_RS.shape == (500, 12)
    assert (counts_RS.sum(axis=1) == 12).all()
    assert counts_RS.mean() == 1
    np.testing.assert_array_equal(counts_RS, resample_counts(12, 500, seed=3))
    assert (counts_RS != resample_counts(12, 500, seed=4)).any()
