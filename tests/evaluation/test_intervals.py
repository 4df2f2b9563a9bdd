"""Intervals against scipy and known cases; measures refuse what is not finite."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.errors import ConfigError, ModelFileError
from analysis.evaluation import Curve, Evaluation, Histogram, Measure, collapse_warning, compare, intervals


def measure(name: str = "forget", value: float = 0.5, **changes) -> Measure:
    return Measure(
        **{"name": name, "value": value, "low": 0.4, "high": 0.6, "n": 8, "counts": "facts", "unit": "P"} | changes
    )


def evaluation(label: str = "base", **changes) -> Evaluation:
    given = {"model": "m", "concept": "c", "label": label, "measures": (measure(), measure("neighbours", 0.9))}
    return Evaluation(**given | changes)


@pytest.mark.parametrize(("right", "n"), [(0, 8), (8, 8), (3, 10), (1, 1), (50, 60)])
def test_shares_have_wilsons_interval(right: int, n: int):
    found = intervals.share("x", [True] * right + [False] * (n - right), counts="facts", unit="share")
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert (found.value, found.n) == (right / n, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_means_have_a_bootstrap_interval():
    values = np.random.default_rng(3).beta(2, 3, 40)
    found = intervals.mean("x", values, counts="facts", unit="P")
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert intervals.mean("x", values, counts="facts", unit="P") == found


def test_one_fact_says_nothing_and_equal_facts_are_not_certain():
    alone = intervals.mean("x", [0.7], counts="facts", unit="P")
    assert (alone.value, alone.low, alone.high, alone.n) == (0.7, 0.0, 1.0, 1)
    equal = intervals.mean("x", [0.0] * 8, counts="facts", unit="P")
    assert equal.low == 0
    assert equal.high == pytest.approx(stats.binomtest(0, 8).proportion_ci(0.95, method="wilson").high, abs=1e-6)


def test_coverage_over_facts():
    """About 95% of intervals hold the true mean."""
    random, true = np.random.default_rng(0), 2 / 5
    found = [intervals.mean("x", random.beta(2, 3, 30), counts="facts", unit="P") for _ in range(300)]
    assert 0.89 <= np.mean([one.low <= true <= one.high for one in found]) <= 0.98


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["value", "low", "high"])
def test_a_measure_is_never_nan(bad: float, field: str):
    with pytest.raises(ModelFileError, match="not finite"):
        measure(**{field: bad})


def test_a_measure_counts_something():
    with pytest.raises(ModelFileError, match="of 0 facts"):
        measure(n=0)


def whole() -> Evaluation:
    return evaluation(
        skipped={"kl": "none"},
        facts=(("France", "Paris", 0.25),),
        histogram=Histogram(edges=(0.0, 1.0, 2.0), counts=(3, 4)),
        curves=(Curve(name="probe_true", layers=(-1, 0), values=(0.0, 1.0), low=(0.0, 0.5), high=(0.5, 1.0), n=3, counts="facts", unit="share"),),
        warning="wrecked",
        provenance={"seed": 0, "parts": ["forget"]},
    )  # fmt: skip


def test_an_evaluation_survives_json():
    assert Evaluation.from_dict(json.loads(json.dumps(whole().to_dict()))) == whole()


@pytest.mark.parametrize("change", [{"measures": 3}, {"colour": 1}, {"histogram": {}}, {"curves": [{}]}, {"model": None, "measures": [{}]}])  # fmt: skip
def test_nonsense_is_no_evaluation(change: dict):
    with pytest.raises(ConfigError, match="not an evaluation"):
        Evaluation.from_dict(whole().to_dict() | change)


def test_table_and_values():
    table = evaluation().table()
    assert list(table.columns) == ["measure", "value", "low", "high", "n", "counts", "unit", "note"]
    assert table["measure"].tolist() == ["forget", "neighbours"]
    assert evaluation().value("forget") == 0.5
    assert evaluation().value("kl_median") is None
    with pytest.raises(ConfigError, match="twice"):
        evaluation(measures=(measure(), measure()))


def test_summary_has_every_key():
    assert evaluation().summary() == {
        "forget": 0.5, "paraphrase": None, "multiple_choice": None, "labelled_words": None, "neighbours": 0.9,
        "neutral_perplexity": None, "kl": None, "warning": None,
    }  # fmt: skip
    with_kl = replace(whole(), measures=tuple(measure(f"kl_{name}", value) for name, value in (("median", 0.1), ("mean", 0.2), ("p95", 0.3))))  # fmt: skip
    assert with_kl.summary()["kl"] == {"median": 0.1, "mean": 0.2, "p95": 0.3, "n_tokens": 7}


def test_states_side_by_side():
    edited = evaluation("edited", measures=(measure(value=0.1), measure("kl_median", 0.01)), warning="wrecked")
    table = compare([evaluation(), edited])
    assert table.index.tolist() == ["forget", "neighbours", "kl_median"]
    assert table.loc["forget", "base"] == 0.5
    assert table.loc["forget", "edited (collapsed)"] == 0.1
    assert table.loc["forget", "base n"] == 8
    assert pd.isna(table.loc["kl_median", "base"])
    assert pd.isna(table.loc["neighbours", "edited (collapsed) low"])
    with pytest.raises(ConfigError, match="label of its own"):
        compare([evaluation(), evaluation()])
    with pytest.raises(ConfigError, match="at least one"):
        compare([])


def test_collapse_is_said_plainly():
    before = measure("neutral_perplexity", 40.0)
    assert collapse_warning(before, measure("neutral_perplexity", 60.0)) is None
    said = collapse_warning(before, measure("neutral_perplexity", 60.1))
    assert said is not None
    assert "from 40.0 to 60.1" in said
    assert "to 2,868.0, more" in (collapse_warning(before, measure("neutral_perplexity", 2868.0)) or "")
    assert "to 1e+304, more" in (collapse_warning(before, measure("neutral_perplexity", 1e304)) or "")
    assert collapse_warning(None, before) is None
