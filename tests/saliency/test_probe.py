"""Probes against scikit-learn on activations of a plain model, and against samples whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis import saliency
from analysis.components.sites import MLP, RESIDUAL, Site
from analysis.concepts import Concept
from analysis.errors import ConceptError
from analysis.models import LanguageModel
from analysis.saliency.moments import ConceptSample, TokenSample, stream
from analysis.saliency.probe import fit
from analysis.scoring.batches import label_concepts
from tests.plain_transformers import Plain, cache, places
from tests.small_runs import made_up


@pytest.mark.parametrize(("site", "seed"), [(MLP, 0), (RESIDUAL, 3)], ids=["mlp", "residual"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_probes_are_scikit_learns(either_model: LanguageModel, site: Site, seed: int):
    """Weights and held-out accuracy of a fit on every activation, with the documented settings written out."""
    concept = made_up(24, share=0.6)  # more labelled tokens than others, so that all are used
    (found,) = saliency.measure(either_model, [concept], methods=["probe"], site=site, seed=seed)
    sample = stream(either_model, label_concepts(either_model, [concept]), site, seed=seed)[1]
    direct = cache(Plain(either_model.source.path), concept, site)
    order = places(direct, sample, concept.name)  # the solver goes through the tokens in this order
    assert sorted(order) == [*range(len(direct.ids_T))]
    labels, groups = direct.labels_T[order], direct.sentences_T[order]
    train, test = next(GroupShuffleSplit(20, test_size=1 / 3, random_state=seed).split(labels, labels, groups))
    for layer, features in enumerate(direct.values_LTU[:, order]):
        logistic = LogisticRegression(solver="saga", l1_ratio=0.5, C=0.1, tol=1e-3, max_iter=60, random_state=seed)
        probe = make_pipeline(StandardScaler(), logistic).fit(features[train], labels[train])
        np.testing.assert_allclose(found.signed_LN[layer], logistic.coef_[0], atol=1e-4)
        assert found.layers["held_out_accuracy"][layer] == pytest.approx(probe.score(features[test], labels[test]))
    np.testing.assert_array_equal(found.scores_LN, np.abs(found.signed_LN))
    assert found.provenance["majority_accuracy"] == pytest.approx(max(labels[test].mean(), 1 - labels[test].mean()))
    assert (found.provenance["train_tokens"], found.provenance["held_out_tokens"]) == (len(train), len(test))


def sample_of(values_SN: np.ndarray, labels: np.ndarray, sentences: np.ndarray, tokens: np.ndarray) -> TokenSample:
    """A sample of a model with one layer, all of one concept."""
    rows = np.arange(len(labels))
    chosen = ConceptSample(rows, labels.astype(bool), np.ones(len(rows)), sentences, sentences, tokens)
    return TokenSample(torch.tensor(values_SN, dtype=torch.float32)[:, None, :], {"c": chosen}, MLP)


def test_a_unit_that_knows_the_concept_is_found():
    """Selectivity is what a direction for the concept gives: random labels of new words cannot be read from it."""
    random = np.random.default_rng(0)
    labels = np.arange(240) % 2
    values = random.normal(size=(240, 12))
    values[:, 3] += 3 * labels
    values[:, 7] -= 2 * labels
    values[:, 9] = 4.0
    sample = sample_of(values, labels, np.arange(240) // 6, np.arange(240))
    found = fit(sample, sample.concepts["c"])
    assert np.argsort(-np.abs(found.weights_LN[0]))[:2].tolist() == [3, 7]
    assert found.weights_LN[0, 3] > 0 > found.weights_LN[0, 7]
    assert found.weights_LN[0, 9] == 0
    assert found.accuracy_L[0] > 0.9
    assert found.control_accuracy_L[0] == pytest.approx(0.5, abs=0.2)
    assert found.layers()["selectivity"][0] == found.accuracy_L[0] - found.control_accuracy_L[0]


def test_what_a_probe_can_learn_by_heart_is_not_credited():
    """Features that only name the word: the concept can be read, but so can any other labelling of words."""
    random = np.random.default_rng(1)
    tokens = random.integers(0, 12, 360)
    sample = sample_of(np.eye(12)[tokens], tokens < 6, np.arange(360) // 6, tokens)
    found = fit(sample, sample.concepts["c"])
    assert found.accuracy_L[0] > 0.95
    assert abs(found.layers()["selectivity"][0]) < 0.05


def test_the_control_labels_words_not_tokens(monkeypatch: pytest.MonkeyPatch):
    """One label a word, both labels in training, whatever the draw; and the concept's labels play no part."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    real = saliency.probe._logistic
    monkeypatch.setattr(saliency.probe, "_logistic", lambda x, y, seed: seen.append((x, y)) or real(x, y, seed))
    for seed in range(30):
        tokens = np.arange(60) % 3
        sample = sample_of(np.eye(3)[tokens], np.arange(60) % 2, np.arange(60) // 6, tokens)
        seen.clear()
        fit(sample, sample.concepts["c"], seed=seed)
        features, control = seen[1]
        words = features.argmax(1)
        assert all(len(set(control[words == word])) == 1 for word in range(3))
        assert len(set(control)) == 2


def test_accuracy_is_on_sentences_that_were_not_trained_on():
    """Features that only name the sentence: perfect in training, worthless on others."""
    random = np.random.default_rng(2)
    sentences = np.arange(300) // 5
    labels = random.integers(0, 2, 60)[sentences]
    sample = sample_of(np.eye(60)[sentences], labels, sentences, np.arange(300))
    found = fit(sample, sample.concepts["c"])
    assert found.accuracy_L[0] == pytest.approx(0.5, abs=0.2)


def test_as_many_other_tokens_as_the_concept_has():
    random = np.random.default_rng(3)
    labels = np.arange(400) % 10 == 0
    sample = sample_of(random.normal(size=(400, 5)), labels, np.arange(400) // 10, np.arange(400))
    found = fit(sample, sample.concepts["c"])
    assert found.provenance["train_tokens"] + found.provenance["held_out_tokens"] == 80
    assert found.majority == pytest.approx(0.5, abs=0.15)


def test_a_seed_fixes_the_probe(tiny_model: LanguageModel):
    one, same, other = (
        saliency.measure(tiny_model, [made_up(16)], methods=["probe"], seed=seed)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.scores_LN, same.scores_LN)
    assert not np.array_equal(one.scores_LN, other.scores_LN)


def test_what_cannot_be_probed(tiny_model: LanguageModel, tiny_concept: Concept):
    few = replace(tiny_concept, sentences=tiny_concept.sentences[:3])
    with pytest.raises(ConceptError, match="at least four sentences"):
        saliency.measure(tiny_model, [few], methods=["probe"])
    sample = sample_of(np.eye(40), np.arange(40) % 2, np.arange(40) // 4, np.zeros(40, dtype=int))
    with pytest.raises(ConceptError, match="the same one"):
        fit(sample, sample.concepts["c"])
