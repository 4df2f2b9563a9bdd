"""Streamed moments, their error bars and the token sample against a full cache of every single activation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.components.sites import HEADS, MLP, RESIDUAL, SITES, Site
from analysis.concepts import Concept
from analysis.errors import ModelFileError
from analysis.models import LanguageModel
from analysis.saliency.moments import Moments, stream, stream_moments
from analysis.scoring.batches import label_concepts
from tests.plain_transformers import Cache, Plain, cache, places
from tests.raw_model import bridge, raw
from tests.shared_models import shared
from tests.small_runs import made_up


@pytest.fixture(params=["tiny_folder", "tiny_gpt2_folder"], ids=["llama", "gpt2"])
def either_model(request: pytest.FixtureRequest) -> LanguageModel:
    """The test runs once with each architecture; the model is shared and must not be changed."""
    return shared(request.getfixturevalue(request.param))


def assert_same_moments(moments: Moments, concept: str, direct: Cache, *, rtol: float = 1e-4) -> None:
    g = moments.group(concept)
    for group, members in ((g, direct.labels_T), (g + 1, ~direct.labels_T)):
        values = direct.values_LTU[:, members]
        size = np.abs(values).max()
        assert moments.counts_G[group] == members.sum()
        np.testing.assert_allclose(moments.means_GLN[group], values.mean(1), rtol=rtol, atol=1e-6 * size)
        np.testing.assert_allclose(moments.variances_GLN[group], values.var(1), rtol=rtol, atol=1e-6 * size**2)


@pytest.mark.parametrize("site", SITES.values(), ids=SITES)
@pytest.mark.parametrize(("tokens_per_batch", "skip_first"), [(1, True), (40, False), (4096, True)])
def test_moments_are_those_of_every_activation(
    either_model: LanguageModel, tiny_concept: Concept, site: Site, tokens_per_batch: int, skip_first: bool
):
    text = label_concepts(either_model, [tiny_concept], tokens_per_batch=tokens_per_batch, skip_first=skip_first)
    direct = cache(Plain(either_model.source.path), tiny_concept, site, skip_first=skip_first)
    moments = stream_moments(either_model, text, site)
    assert moments.site == site
    assert_same_moments(moments, tiny_concept.name, direct)


def test_several_concepts_in_one_pass(either_model: LanguageModel, tiny_concept: Concept, tiny_shapes: Concept):
    moments = stream_moments(either_model, label_concepts(either_model, [tiny_concept, tiny_shapes]))
    assert moments.concepts == ("tiny-capitals", "tiny-shapes")
    for concept in (tiny_concept, tiny_shapes):
        assert_same_moments(moments, concept.name, cache(Plain(either_model.source.path), concept))


def test_a_sentence_of_two_concepts_counts_for_both_and_runs_once(tiny_model: LanguageModel, tiny_concept: Concept):
    twin = replace(tiny_concept, name="twin")
    one, both = (label_concepts(tiny_model, concepts) for concepts in ([tiny_concept], [tiny_concept, twin]))
    assert sum(batch.tokens_BP.shape[0] for batch in both.batches) == len(tiny_concept.sentences)
    alone, together = stream_moments(tiny_model, one), stream_moments(tiny_model, both)
    for name in ("tiny-capitals", "twin"):
        g = together.group(name)
        np.testing.assert_allclose(together.means_GLN[g : g + 2], alone.means_GLN, rtol=1e-9)
        np.testing.assert_allclose(
            together.difference_variances_CLN[g // 2], alone.difference_variances_CLN[0], rtol=1e-7
        )


def test_a_repeated_sentence_counts_twice(tiny_model: LanguageModel, tiny_concept: Concept):
    sentences = tiny_concept.sentences[:3]
    twice = replace(tiny_concept, sentences=(*sentences, sentences[0]))
    moments = stream_moments(tiny_model, label_concepts(tiny_model, [twice]))
    assert_same_moments(moments, twice.name, cache(Plain(tiny_model.source.path), twice))
    once = stream_moments(tiny_model, label_concepts(tiny_model, [replace(twice, sentences=sentences)]))
    assert moments.counts_G.sum() > once.counts_G.sum()
    assert moments.n_sentences_C.tolist() == [3]  # but it is no further evidence


def test_overall_mean_is_over_both_groups(tiny_model: LanguageModel, tiny_concept: Concept):
    direct = cache(Plain(tiny_model.source.path), tiny_concept)
    moments = stream_moments(tiny_model, label_concepts(tiny_model, [tiny_concept]))
    np.testing.assert_allclose(moments.overall_mean("tiny-capitals"), direct.values_LTU.mean(1), rtol=1e-4, atol=1e-6)


def influences(direct: Cache) -> np.ndarray:
    """How much each sentence moves mean(concept) - mean(other), [S, L, U], one sentence after the other."""
    own, other = direct.values_LTU[:, direct.labels_T], direct.values_LTU[:, ~direct.labels_T]
    found = []
    for s in np.unique(direct.sentences_T):
        here = direct.sentences_T == s
        mine, rest = here & direct.labels_T, here & ~direct.labels_T
        found.append(
            (direct.values_LTU[:, mine] - own.mean(1, keepdims=True)).sum(1) / own.shape[1]
            - (direct.values_LTU[:, rest] - other.mean(1, keepdims=True)).sum(1) / other.shape[1]
        )
    return np.stack(found)


@pytest.mark.parametrize("site", SITES.values(), ids=SITES)
def test_variance_of_the_difference_is_the_clustered_one(
    either_model: LanguageModel, tiny_concept: Concept, site: Site
):
    concepts = [made_up(12), tiny_concept]
    moments = stream_moments(either_model, label_concepts(either_model, concepts, tokens_per_batch=60), site)
    for c, concept in enumerate(concepts):
        direct = cache(Plain(either_model.source.path), concept, site)
        s = min(len(np.unique(direct.sentences_T[labelled])) for labelled in (direct.labels_T, ~direct.labels_T))
        assert moments.n_sentences_C[c] == s
        expected = (influences(direct) ** 2).sum(0) * s / (s - 1)
        np.testing.assert_allclose(moments.difference_variances_CLN[c], expected, rtol=1e-3, atol=1e-9)


def test_variance_of_the_difference_is_that_of_resampled_sentences(tiny_model: LanguageModel):
    """A bootstrap over sentences, resampled the long way, spreads as much."""
    concept = made_up(60)
    moments = stream_moments(tiny_model, label_concepts(tiny_model, [concept]))
    direct = cache(Plain(tiny_model.source.path), concept)
    random = np.random.default_rng(0)
    rows = [np.flatnonzero(direct.sentences_T == s) for s in range(60)]
    differences = []
    for _ in range(600):
        chosen = np.concatenate([rows[s] for s in random.integers(0, 60, 60)])
        values, labels = direct.values_LTU[:, chosen], direct.labels_T[chosen]
        differences.append(values[:, labels].mean(1) - values[:, ~labels].mean(1))
    ratio = moments.difference_variances_CLN[0] / np.var(differences, axis=0)
    assert np.median(ratio) == pytest.approx(1, abs=0.08)
    assert np.quantile(ratio, [0.02, 0.98]).tolist() == pytest.approx([1, 1], abs=0.3)
    naive = (moments.variances_GLN / moments.counts_G[:, None, None]).sum(0)
    assert np.abs(np.log(naive / np.var(differences, axis=0))).mean() > np.abs(np.log(ratio)).mean()


def test_a_single_sentence_has_no_error_bar(tiny_model: LanguageModel, mark):
    concept = Concept(name="c", title="c", sentences=(mark("The *train* to the *sea* left the *station* early."),))
    moments = stream_moments(tiny_model, label_concepts(tiny_model, [concept]))
    assert moments.n_sentences_C.tolist() == [1]
    assert np.isnan(moments.difference_variances_CLN).all()


def test_sentences_that_say_the_same_count_once(tiny_model: LanguageModel, tiny_concept: Concept):
    """Repeating a text adds no evidence, and neither do further wordings of one fact."""
    once = made_up(12)
    fourfold = replace(once, sentences=once.sentences * 4)
    alone, repeated = (stream_moments(tiny_model, label_concepts(tiny_model, [one])) for one in (once, fourfold))
    assert repeated.n_sentences_C.tolist() == alone.n_sentences_C.tolist()
    assert alone.n_sentences_C[0] <= 12
    np.testing.assert_allclose(repeated.difference_variances_CLN, alone.difference_variances_CLN, rtol=1e-5)
    stated = replace(tiny_concept, sentences=())
    text = label_concepts(tiny_model, [stated], tokens_per_batch=20)
    assert len(text.sentences) == 2 * len(stated.facts)
    for batch in text.batches:
        assert all(batch.clusters.count(cluster) == 2 for cluster in batch.clusters)
    assert stream_moments(tiny_model, text).n_sentences_C.tolist() == [len(stated.facts)]


def test_few_labelled_sentences_are_not_made_certain_by_many_others(tiny_model: LanguageModel, tiny_neutral):
    labelled = made_up(3)
    more = replace(labelled, sentences=(*labelled.sentences, *tiny_neutral))
    moments = stream_moments(tiny_model, label_concepts(tiny_model, [more]))
    assert moments.n_sentences_C.tolist() == [3]
    direct = cache(Plain(tiny_model.source.path), more)
    np.testing.assert_allclose(
        moments.difference_variances_CLN[0], (influences(direct) ** 2).sum(0) * 3 / 2, rtol=1e-3, atol=1e-9
    )


def test_halves_are_the_even_and_the_odd_sentences(either_model: LanguageModel):
    concept = made_up(11)
    moments = stream_moments(either_model, label_concepts(either_model, [concept], tokens_per_batch=50))
    for k, half in enumerate(moments.halves):
        part = replace(concept, sentences=concept.sentences[k::2])
        assert_same_moments(half, concept.name, cache(Plain(either_model.source.path), part))


@pytest.mark.parametrize("site", [MLP, RESIDUAL], ids=["mlp", "residual"])
def test_a_sample_that_holds_all_tokens(either_model: LanguageModel, tiny_concept: Concept, site: Site):
    concepts = [tiny_concept, made_up(9)]
    text = label_concepts(either_model, concepts, tokens_per_batch=60)
    moments, sample = stream(either_model, text, site)
    for concept in concepts:
        direct = cache(Plain(either_model.source.path), concept, site)
        assert_same_moments(moments, concept.name, direct)
        chosen = sample.concepts[concept.name]
        assert chosen.is_whole
        assert (chosen.labels.sum(), (~chosen.labels).sum()) == (direct.labels_T.sum(), (~direct.labels_T).sum())
        first = 0 if concept is tiny_concept else len(tiny_concept.sentences)
        assert sorted(places(direct, sample, concept.name, first_sentence=first)) == [*range(len(direct.ids_T))]


def test_a_sample_smaller_than_the_text(either_model: LanguageModel):
    concept = made_up(40)
    text = label_concepts(either_model, [concept])
    direct = cache(Plain(either_model.source.path), concept)
    per_token = either_model.n_layers * either_model.n_neurons * 4
    moments, sample = stream(either_model, text, seed=3, sample_bytes=30 * per_token)
    chosen = sample.concepts[concept.name]
    assert sample.values_SLN.shape == (30, *either_model.shape)
    assert (len(chosen.rows), chosen.labels.sum(), chosen.is_whole) == (30, 15, False)
    assert chosen.weights[chosen.labels].sum() == pytest.approx(direct.labels_T.sum())
    assert chosen.weights[~chosen.labels].sum() == pytest.approx((~direct.labels_T).sum())
    assert len(set(places(direct, sample, concept.name))) == 30
    assert_same_moments(moments, concept.name, direct)  # which are of all tokens nevertheless
    again, other = (stream(either_model, text, seed=s, sample_bytes=30 * per_token)[1] for s in (3, 4))
    torch.testing.assert_close(again.values_SLN, sample.values_SLN, rtol=0, atol=0)
    assert not torch.equal(other.values_SLN, sample.values_SLN)


def test_the_sample_is_drawn_evenly(tiny_model: LanguageModel):
    """Over many seeds, every token is drawn as often as any other of its group."""
    text = label_concepts(tiny_model, [made_up(12)])
    per_token = tiny_model.n_layers * tiny_model.n_neurons * 4
    drawn: dict[tuple[bool, int], int] = {}
    for seed in range(40):
        chosen = stream(tiny_model, text, seed=seed, sample_bytes=20 * per_token)[1].concepts["made-up"]
        for label, s in zip(chosen.labels.tolist(), chosen.sentences.tolist()):
            drawn[label, s] = drawn.get((label, s), 0) + 1
    for label, group in ((True, 0), (False, 1)):
        sizes = np.zeros(12)
        for batch in text.batches:
            sizes[list(batch.sentences)] += batch.weights_GBP[group].sum(1).numpy()
        expected = (sizes / sizes.sum() * 400)[sizes > 0]
        found = np.array([drawn.get((label, s), 0) for s in np.flatnonzero(sizes)])
        assert ((found - expected) ** 2 / expected).sum() < 31.3  # 99.9% of chi-square with 11 degrees of freedom


def test_the_models_own_computation_is_not_disturbed(
    either_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    text = label_concepts(either_model, [tiny_concept])
    with torch.inference_mode():
        before = either_model.logits(text.batches[0].tokens_BP)
        residual = either_model.residual(text.batches[0].tokens_BP)
        seen = []
        plain = either_model.residual
        monkeypatch.setattr(either_model, "residual", lambda tokens: seen.append(plain(tokens)) or seen[-1])
        stream(either_model, text)
    torch.testing.assert_close(seen[0], residual, rtol=0, atol=0)
    torch.testing.assert_close(either_model.logits(text.batches[0].tokens_BP), before)


def test_the_head_is_skipped(tiny_model: LanguageModel, tiny_concept: Concept):
    def forbidden(*arguments):
        raise AssertionError("the LM head was run")

    handle = raw(tiny_model).get_output_embeddings().register_forward_pre_hook(forbidden)
    try:
        moments = stream_moments(tiny_model, label_concepts(tiny_model, [tiny_concept]))
    finally:
        handle.remove()
    assert moments.counts_G.sum() > 0


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("site", SITES.values(), ids=SITES)
def test_activations_that_are_not_finite_name_the_layer(
    tiny_model: LanguageModel, tiny_concept: Concept, site: Site, layer: int, value: float
):
    weights = {weight.name: weight.parameter for weight in tiny_model.neuron_weights(layer)}
    value_weight = bridge(tiny_model).blocks[layer].attn.v.original_component.weight
    parameter = {MLP: weights["gate"], RESIDUAL: weights["out"], HEADS: value_weight}[site]
    with torch.no_grad():
        parameter[5, 3] = value
    text = label_concepts(tiny_model, [tiny_concept])
    for run in (stream_moments, stream):
        with pytest.raises(ModelFileError, match=rf"blocks\.{layer}\.{site.name}.*not finite"):
            run(tiny_model, text, site)


@pytest.mark.slow_model
def test_default_model_moments_are_those_of_every_activation(
    default_model: LanguageModel, default_model_folder: Path, tiny_concept: Concept
):
    moments = stream_moments(default_model, label_concepts(default_model, [tiny_concept]))
    assert_same_moments(moments, tiny_concept.name, cache(Plain(default_model_folder), tiny_concept), rtol=1e-3)
