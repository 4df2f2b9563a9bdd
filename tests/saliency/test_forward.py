"""Forward-only scores against their definitions, computed from every single activation of a plain model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from analysis import models, saliency
from analysis.components.sites import HEADS, MLP, RESIDUAL, Site
from analysis.concepts import Concept
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.saliency import from_moments
from analysis.saliency.methods.average_precision import average_precision
from analysis.saliency.moments import ConceptSample, Moments, TokenSample, stream, stream_moments
from analysis.scoring.batches import label_concepts
from tests.plain_transformers import Cache, Plain, cache, variant
from tests.raw_model import bridge
from tests.small_runs import made_up


def check_differences(model: LanguageModel, concepts: list[Concept], site: Site) -> None:
    found = saliency.measure(model, concepts, methods=["probeless", "standardised"], site=site)
    assert [(score.concept, score.method) for score in found] == [
        (concept.name, method) for concept in concepts for method in ("probeless", "standardised")
    ]
    for c, concept in enumerate(concepts):
        direct = cache(Plain(model.source.path), concept, site)
        a, b = direct.values_LTU[:, direct.labels_T], direct.values_LTU[:, ~direct.labels_T]
        signed = a.mean(1) - b.mean(1)
        pooled = np.sqrt((a.var(1) + b.var(1)) / 2)
        for score, expected in zip(found[2 * c : 2 * c + 2], (signed, signed / pooled)):
            tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.abs(expected).max()}
            np.testing.assert_allclose(score.signed_LN, expected, **tolerance)
            np.testing.assert_allclose(score.scores_LN, np.abs(expected), **tolerance)
            assert (score.n_concept_tokens, score.n_other_tokens) == (a.shape[1], b.shape[1])
            assert (score.site, score.provenance["site"]) == (site.name, site.name)
        raw, standardised = found[2 * c : 2 * c + 2]
        assert raw.standard_error_LN is not None
        np.testing.assert_allclose(raw.p_values(), standardised.p_values(), rtol=1e-6)


@pytest.mark.parametrize("site", [MLP, RESIDUAL], ids=["mlp", "residual"])
def test_differences_of_means_are_the_definitions(
    either_model: LanguageModel, tiny_concept: Concept, tiny_shapes: Concept, site: Site
):
    check_differences(either_model, [tiny_shapes, tiny_concept], site)


def test_probeless_of_a_head_is_a_vectors_length(either_model: LanguageModel, tiny_concept: Concept):
    (found,) = saliency.measure(either_model, [tiny_concept], site=HEADS)
    direct = cache(Plain(either_model.source.path), tiny_concept, HEADS)
    difference = direct.values_LTU[:, direct.labels_T].mean(1) - direct.values_LTU[:, ~direct.labels_T].mean(1)
    width = either_model.d_head
    expected = [[np.linalg.norm(row[h * width : (h + 1) * width]) for h in range(4)] for row in difference]
    np.testing.assert_allclose(found.scores_LN, expected, rtol=1e-4)
    assert found.signed_LN is found.standard_error_LN is None


@pytest.fixture
def relu_model(tiny_gpt2_folder: Path, tmp_path: Path) -> LanguageModel:
    """A GPT-2 with ReLU neurons, half of whose activations are exactly zero, and some neurons that are always zero."""
    folder = variant(tiny_gpt2_folder, tmp_path / "relu", activation_function="relu")
    model = models.load(str(folder), device="cpu")
    with torch.no_grad():
        for weight in model.neuron_weights(1)[:-1]:
            weight.parameter.select(weight.axis, 7).zero_()
    return model


def check_average_precision(direct: Cache, found_LN: np.ndarray, tolerance: float = 1e-5) -> None:
    """scikit-learn's average precision of both rankings, and the sign of the better one."""
    for place in np.ndindex(found_LN.shape):
        values = direct.values_LTU[place[0], :, place[1]]
        up, down = (average_precision_score(direct.labels_T, sign * values) for sign in (1, -1))
        assert abs(found_LN[place]) == pytest.approx(max(up, down), abs=tolerance)
        if abs(up - down) > 2 * tolerance:
            assert (found_LN[place] > 0) == (up > down)


def seen(sample: TokenSample, name: str) -> Cache:
    """The sampled activations themselves: one more run would break and make ties at the last bit."""
    chosen = sample.concepts[name]
    values = sample.values_SLN[chosen.rows].numpy().transpose(1, 0, 2)
    return Cache(values, chosen.labels, chosen.sentences, chosen.tokens)


@pytest.mark.parametrize("site", [MLP, RESIDUAL], ids=["mlp", "residual"])
def test_average_precision_is_scikit_learns(either_model: LanguageModel, site: Site):
    concept = made_up(12)
    (found,) = saliency.measure(either_model, [concept], methods=["average_precision"], site=site)
    direct = cache(Plain(either_model.source.path), concept, site)
    sample = stream(either_model, label_concepts(either_model, [concept]), site)[1]
    check_average_precision(seen(sample, concept.name), found.signed_LN)
    check_average_precision(direct, found.signed_LN, tolerance=0.003)  # close activations can change places
    np.testing.assert_array_equal(found.scores_LN, np.abs(found.signed_LN))
    assert found.provenance["sample_is_whole"] is True
    assert found.provenance["base_rate"] == pytest.approx(direct.labels_T.mean())
    assert (found.signed_LN > 0).any()
    assert (found.signed_LN < 0).any()


def test_average_precision_with_ties(relu_model: LanguageModel):
    concept = made_up(12)
    (found,) = saliency.measure(relu_model, [concept], methods=["average_precision"])
    sample = stream(relu_model, label_concepts(relu_model, [concept]))[1]
    direct = seen(sample, concept.name)
    assert (direct.values_LTU == 0).mean() > 0.3
    check_average_precision(direct, found.signed_LN)
    assert found.scores_LN[1, 7] == pytest.approx(found.provenance["base_rate"])


def test_average_precision_weighs_sampled_tokens(relu_model: LanguageModel):
    """Against scikit-learn with sample weights, and near the value over all tokens."""
    concept = made_up(60, share=0.2)
    per_token = relu_model.n_layers * relu_model.n_neurons * 4
    text = label_concepts(relu_model, [concept])
    sample, whole = (stream(relu_model, text, sample_bytes=k * per_token)[1] for k in (200, 10**6))
    chosen = sample.concepts[concept.name]
    assert len(set(chosen.weights)) == 2
    found, exact = (average_precision(one, one.concepts[concept.name]) for one in (sample, whole))
    values = sample.values_SLN[chosen.rows].numpy()
    for place in np.ndindex(found.shape):
        expected = max(
            average_precision_score(chosen.labels, sign * values[:, place[0], place[1]], sample_weight=chosen.weights)
            for sign in (1, -1)
        )
        assert abs(found[place]) == pytest.approx(expected, rel=1e-4)
    assert np.abs(np.abs(found) - np.abs(exact)).mean() < 0.02


def test_average_precision_at_its_ends():
    """Perfect, perfectly inverted, and indifferent units."""
    labels = np.array([True, True, False, False, False, False])
    columns = [[5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 0]]
    values = torch.tensor(columns, dtype=torch.float32).T[:, None, :]
    rows = np.arange(6)
    chosen = ConceptSample(rows, labels, np.ones(6), rows, rows, rows)
    found = average_precision(TokenSample(values, {"c": chosen}, MLP), chosen)
    np.testing.assert_allclose(found, [[1, -1, 1 / 3, (1 / 2 + 1 / 3) / 2]], rtol=1e-6)


def test_a_neuron_that_never_moves_scores_zero():
    means = np.zeros((2, 1, 3))
    means[0] = [[1.0, 2.0, 0.0]]
    variances = np.zeros((2, 1, 3))
    variances[:, 0, 0] = 4.0
    moments = Moments(("c",), np.array([3.0, 5.0]), means, variances)
    np.testing.assert_array_equal(from_moments(moments, "c", "standardised").scores_LN, [[0.5, 0.0, 0.0]])
    np.testing.assert_array_equal(from_moments(moments, "c", "probeless").scores_LN, [[1.0, 2.0, 0.0]])


def test_a_neuron_that_never_moves_is_no_discovery(tiny_gpt2: LanguageModel):
    """Constant activations leave rounding errors: a tiny difference with no spread must not look certain."""
    (gate, bias, _) = tiny_gpt2.neuron_weights(1)
    with torch.no_grad():
        gate.parameter.zero_()
    assert bias.parameter.abs().min() > 0
    concept = made_up(40)
    for found in saliency.measure(tiny_gpt2, [concept], methods=["probeless", "standardised"]):
        assert found.scores_LN[1].max() < 1e-6
        assert found.p_values()[1].min() > 0.9


def shuffled(n_sentences: int, seed: int) -> Concept:
    """Labels that mean nothing: any word of a sentence may carry one."""
    return made_up(n_sentences, seed=seed, share=0.2, name=f"random-{seed}")


def discoveries(found: saliency.Saliency) -> float:
    return float((found.q_values() < 0.05).mean())


def test_random_labels_give_few_discoveries(either_model: LanguageModel):
    """With nothing to find, any discovery is a false one: at q < 0.05 at most about one run in twenty may have any."""
    concepts = [shuffled(80, seed) for seed in range(20)]
    for site in (MLP, RESIDUAL):
        found = saliency.measure(either_model, concepts, site=site)
        assert np.mean([discoveries(score) for score in found]) < 0.01
        assert np.mean([discoveries(score) > 0 for score in found]) <= 0.2
        below = np.mean([(score.p_values() < 0.05).mean() for score in found])
        assert below == pytest.approx(0.05, abs=0.02)


def test_a_real_difference_is_discovered(either_model: LanguageModel):
    """The same test on labels that do mean something: every “kettle” and “sea” of the text."""
    concept = shuffled(80, 0)
    spans = [
        tuple((start, start + len(word)) for word in ("kettle", "sea") if (start := sentence.text.find(word)) > 0)
        for sentence in concept.sentences
    ]
    sentences = (replace(s, spans=tuple(sorted(found))) for s, found in zip(concept.sentences, spans))
    (found,) = saliency.measure(either_model, [replace(concept, sentences=tuple(sentences))])
    assert discoveries(found) > 0.05


def test_few_labelled_sentences_are_no_certainty(tiny_model: LanguageModel):
    """Random labels in four sentences of eighty: their own mean takes most of their scatter away."""
    found = []
    for seed in range(20):
        concept = shuffled(80, seed)
        bare = tuple(replace(sentence, spans=()) for sentence in concept.sentences[4:])
        found.append(replace(concept, sentences=concept.sentences[:4] + bare))
    scores = saliency.measure(tiny_model, found)
    assert all(score.n_independent <= 4 for score in scores)
    assert np.mean([(score.p_values() < 0.05).mean() for score in scores]) < 0.08
    assert np.mean([discoveries(score) for score in scores]) < 0.01
    # what counting all eighty sentences as independent would say
    usual = [
        replace(score, standard_error_LN=score.standard_error_LN * np.sqrt((s - 1) / s * 80 / 79), n_independent=80)
        for score in scores
        for s in [score.n_independent]
    ]
    assert np.mean([(score.p_values() < 0.05).mean() for score in usual]) > 0.15
    assert np.mean([discoveries(score) for score in usual]) > 0.05


def test_one_sentence_gives_scores_but_no_certainty(tiny_model: LanguageModel, mark):
    concept = Concept(name="c", title="c", sentences=(mark("The *train* to the *sea* left the *station* early."),))
    (found,) = saliency.measure(tiny_model, [concept])
    assert (found.scores_LN > 0).all()
    assert np.isnan(found.q_values()).all()


def test_provenance_says_what_was_measured(tiny_model: LanguageModel, tiny_concept: Concept):
    scores = saliency.measure(tiny_model, [tiny_concept], methods=list(saliency.METHODS)[:4], skip_first=False, seed=7)
    for score in scores:
        assert score.provenance["model"] == "tiny-llama"
        assert score.provenance["dtype"] == "float32"
        assert score.provenance["skips_first_position"] is False
        assert score.provenance["tokens_cut"] == 0
        assert score.provenance["sentences"] == 6
    assert [score.provenance.get("seed") for score in scores] == [None, None, 7, 7]
    assert "activation units" in scores[0].unit


def test_what_cannot_be_asked_for(tiny_model: LanguageModel, tiny_concept: Concept, tiny_neutral):
    with pytest.raises(ConfigError, match="“astrology” is no saliency method"):
        saliency.measure(tiny_model, [tiny_concept], methods=["probeless", "astrology"])
    with pytest.raises(ConfigError, match="Name the units"):
        saliency.measure(tiny_model, [tiny_concept], methods=["ablation"])
    with pytest.raises(ConfigError, match="an attention head writes a vector"):
        saliency.measure(tiny_model, [tiny_concept], methods=["probe"], site=HEADS)
    with pytest.raises(ConceptError, match="labels no words"):
        saliency.measure(tiny_model, [replace(tiny_concept, facts=(), sentences=tiny_neutral)])


def test_no_concepts_give_no_scores(tiny_model: LanguageModel):
    assert saliency.measure(tiny_model, [], methods=["probeless", "average_precision"]) == []


def test_one_pass_gives_all_methods_of_all_concepts(tiny_model: LanguageModel, tiny_concept: Concept):
    runs = []
    plain, tiny_model.residual = tiny_model.residual, lambda tokens: runs.append(tokens.shape[0]) or plain(tokens)
    twin = replace(tiny_concept, name="twin")
    saliency.measure(tiny_model, [tiny_concept, twin], methods=["probeless", "probe", "average_precision"])
    assert sum(runs) == len(tiny_concept.sentences)
    one_pass = saliency.scan(tiny_model, [tiny_concept, twin])
    assert one_pass.sentences == tiny_concept.sentences
    for name in ("tiny-capitals", "twin"):
        chosen = one_pass.sample.concepts[name]
        for s, token in zip(chosen.sentences, chosen.tokens):
            assert token in tiny_model.encode(one_pass.sentences[s].text).ids


@pytest.mark.slow_model
def test_default_model_ranking_is_that_of_a_direct_computation(default_model: LanguageModel, tiny_concept: Concept):
    """To 1e-5 of the score for the very batches that are streamed, and with the same ranking."""
    text = label_concepts(default_model, [tiny_concept])
    moments = stream_moments(default_model, text)
    sums, counts = np.zeros((2, *default_model.shape)), np.zeros((2, 1, 1))
    for batch in text.batches:
        with torch.inference_mode():
            _, kept = bridge(default_model).run_with_cache(batch.tokens_BP)
        values_LTN = np.stack([kept[MLP.hook(layer)].flatten(0, 1).double().numpy() for layer in range(30)])
        weights_GT = batch.weights_GBP.flatten(1).double().numpy()
        sums += np.einsum("gt,ltn->gln", weights_GT, values_LTN)
        counts += weights_GT.sum(1)[:, None, None]
    expected = np.abs(np.subtract(*(sums / counts)))
    scores = from_moments(moments, tiny_concept.name, "probeless")
    np.testing.assert_allclose(scores.scores_LN, expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(scores.order, np.argsort(-expected, axis=None, kind="stable"))
