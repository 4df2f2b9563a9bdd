"""Bootstrapped scores against resampling done the long way, with the library's and scikit-learn's definitions."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from analysis import saliency
from analysis.components.neurons import NeuronSet
from analysis.concepts import Concept
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.neuron_cards.bootstrap import BOOTSTRAP_METHODS, BootstrapScores, bootstrap_scores
from analysis.neuron_cards.token_activations import TokenActivations, token_activations
from tests.neuron_cards.written_activations import written_activations

BY_HAND = ("probeless", "standardised", "average_precision")
"""The methods that `scores` works out."""


def made_up(n_sentences: int = 30, *, seed: int = 0, step: float = 0.0) -> TokenActivations:
    """Sentences of 2 to 6 words, “x” the concept's; neuron 0 knows it, neuron 1 avoids it, 2 is noise, 3 is dead."""
    random = np.random.default_rng(seed)
    texts, values = [], []
    for s in range(n_sentences):
        words = ["x" if s % 3 and w == s % 2 else f"w{s}.{w}" for w in range(2 + s % 5)]
        texts.append(" ".join(words))
        shift = random.normal() * 0.5
        for word in words:
            own = word == "x"
            noise = random.normal(size=3)
            values.append([2 * own + noise[0] + shift, noise[1] - 1.5 * own, noise[2], 0])
    values = np.round(np.array(values) / step) * step if step else np.array(values)
    return written_activations(texts, values, labels=["x"])


def scores(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The three definitions, on one neuron's tokens."""
    own, other = values[labels], values[~labels]
    difference = abs(own.mean() - other.mean())
    pooled = np.sqrt((own.var() + other.var()) / 2)
    return {
        "probeless": difference,
        "standardised": difference / pooled if pooled > 1e-12 else 0.0,
        "average_precision": max(average_precision_score(labels, sign * values) for sign in (1, -1)),
    }


def the_long_way(activations: TokenActivations, n_resamples: int, seed: int) -> np.ndarray:
    """Scores [R, K, method] of resampled texts, each written out token by token."""
    n = len(activations.sentences)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
    found = []
    for draw in draws:
        rows = np.concatenate(
            [np.arange(len(activations.ids_T))[activations.rows(s)] for s in np.repeat(np.arange(n), draw).tolist()]
        )
        labels = activations.labels_T[rows]
        if labels.any() and not labels.all():
            values = activations.values_TK[rows].astype(np.float64)
            found.append([list(scores(column, labels).values()) for column in values.T])
    return np.array(found)


@pytest.mark.parametrize("step", [0.0, 1.0], ids=["distinct", "many ties"])
def test_intervals_are_those_of_resampled_texts(step: float):
    activations = made_up(step=step)
    thresholds = {"probeless": 1.0, "average_precision": 0.6}
    found = bootstrap_scores(activations, methods=BY_HAND, n_resamples=150, seed=4, level=0.9, thresholds=thresholds)
    direct_RKM = the_long_way(activations, 150, 4)
    assert found.n_resamples == len(direct_RKM)
    assert (found.n_sentences, found.n_concept_sentences) == (30, 20)
    assert found.table["neuron"].tolist() == [f"L0.N{k}" for k in range(4) for _ in range(3)]
    for k in range(4):
        whole = scores(activations.values_TK[:, k].astype(np.float64), activations.labels_T)
        for m, method in enumerate(BY_HAND):
            row = found.table.iloc[3 * k + m]
            assert row["method"] == method
            assert row["score"] == pytest.approx(whole[method], abs=1e-9)
            expected = np.quantile(direct_RKM[:, k, m], [0.05, 0.95])
            np.testing.assert_allclose([row["low"], row["high"]], expected, atol=1e-9)
            if method in thresholds:
                assert row["share_above"] == pytest.approx((direct_RKM[:, k, m] > thresholds[method]).mean())
            else:
                assert np.isnan(row["share_above"])


def test_scores_are_those_of_saliency(either_model: LanguageModel, tiny_concept: Concept):
    neurons = NeuronSet([1, 30, either_model.n_neurons + 2], either_model.shape)
    found = bootstrap_scores(
        token_activations(either_model, tiny_concept.sentences, neurons, skip_first=True), n_resamples=100
    ).table.pivot(index="neuron", columns="method", values="score")
    for result in saliency.measure(either_model, [tiny_concept], methods=BOOTSTRAP_METHODS):
        expected = result.scores_LN.ravel()[neurons.flat]
        np.testing.assert_allclose(found.loc[[str(n) for n in neurons], result.method], expected, rtol=1e-4)


def test_blocks_of_neurons_change_nothing(monkeypatch: pytest.MonkeyPatch):
    whole = bootstrap_scores(made_up(), n_resamples=100)
    monkeypatch.setattr("analysis.neuron_cards.bootstrap._BLOCK", 250)
    np.testing.assert_allclose(
        bootstrap_scores(made_up(), n_resamples=100).table.iloc[:, 2:5], whole.table.iloc[:, 2:5], rtol=1e-9
    )
    assert bootstrap_scores(made_up(), n_resamples=100).table["method"].equals(whole.table["method"])


def width(found: BootstrapScores, neuron: int) -> float:
    row = found.table.iloc[neuron]
    return row["high"] - row["low"]


def test_more_sentences_give_shorter_bars():
    short, long = (bootstrap_scores(made_up(n), methods=["probeless"], n_resamples=400) for n in (30, 270))
    assert width(long, 0) < 0.6 * width(short, 0)


def test_bars_are_over_sentences_not_tokens():
    """Repeating every word of a sentence tells nothing new, so the bars stay."""
    texts = [f"x y{s}" if s % 2 else f"z y{s}" for s in range(40)]
    values = np.random.default_rng(2).normal(size=(80, 1))
    once = written_activations(texts, values, labels=["x"])
    repeated = np.concatenate([np.tile(values[2 * s : 2 * s + 2], (5, 1)) for s in range(40)])
    often = written_activations([" ".join([text] * 5) for text in texts], repeated, labels=["x"])
    one, five = (bootstrap_scores(activations, methods=["probeless"], n_resamples=200) for activations in (once, often))
    np.testing.assert_allclose(one.table.iloc[:, 2:5].astype(float), five.table.iloc[:, 2:5].astype(float))


def test_labels_may_be_given():
    activations = made_up()
    other = np.array([activations.words[w].text.endswith(".0") for w in activations.word_T])
    found = bootstrap_scores(activations, other, methods=["probeless"], n_resamples=100).table
    values = activations.values_TK[:, 0].astype(np.float64)
    assert found["score"][0] == pytest.approx(abs(values[other].mean() - values[~other].mean()))


def test_settings_out_of_range():
    activations = made_up()
    with pytest.raises(ConfigError, match="“probe” has no error bars"):
        bootstrap_scores(activations, methods=["probe"])
    with pytest.raises(ConfigError, match="“ablation” has no error bars"):
        bootstrap_scores(activations, thresholds={"ablation": 1.0})
    with pytest.raises(ConfigError, match="No method"):
        bootstrap_scores(activations, methods=[])
    with pytest.raises(ConfigError, match="at least 100"):
        bootstrap_scores(activations, n_resamples=5)
    with pytest.raises(ConfigError, match="confidence level"):
        bootstrap_scores(activations, level=95)
    with pytest.raises(ConfigError, match="true or false"):
        bootstrap_scores(activations, activations.labels_T[:-1])
    with pytest.raises(ConfigError, match="true or false"):
        bootstrap_scores(activations, activations.labels_T.astype(int))
    with pytest.raises(ConceptError, match="at least two sentences"):
        bootstrap_scores(written_activations(["x y", "y"], [[1], [2], [3]], labels=["x"]))
    with pytest.raises(ConceptError, match="other words"):
        bootstrap_scores(written_activations(["x x", "x"], [[1], [2], [3]], labels=["x"]))
