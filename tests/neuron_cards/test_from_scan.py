"""Traces from a scan's sample against traces from a pass of their own."""

from dataclasses import replace

import numpy as np
import pytest

from analysis import saliency
from analysis.components.neurons import NeuronSet
from analysis.components.sites import HEADS, MLP, RESIDUAL, Site
from analysis.concepts import Concept
from analysis.errors import ConfigError
from analysis.models import LanguageModel
from analysis.neuron_cards.from_scan import activations_from_scan
from analysis.neuron_cards.token_activations import TokenActivations, token_activations


@pytest.mark.parametrize("site", [MLP, RESIDUAL], ids=lambda site: site.name)
@pytest.mark.parametrize("skip_first", [True, False])
def test_equals_a_pass_of_its_own(either_model: LanguageModel, tiny_concept: Concept, site: Site, skip_first: bool):
    width = either_model.n_neurons if site == MLP else either_model.d_model
    neurons = NeuronSet([1, 5, width + 3, 2 * width - 1], (either_model.n_layers, width))
    # a repeated sentence counts twice, in both
    concept = replace(tiny_concept, sentences=(*tiny_concept.sentences, tiny_concept.sentences[0]))
    scan = saliency.scan(either_model, [concept], site=site, skip_first=skip_first)
    found = activations_from_scan(either_model, scan, concept.name, neurons)
    expected = token_activations(either_model, concept.sentences, neurons, site=site, skip_first=skip_first)
    assert isinstance(found, TokenActivations)
    np.testing.assert_allclose(found.values_TK, expected.values_TK, rtol=1e-4, atol=1e-5)
    for name in ("ids_T", "sentence_T", "offsets_T2", "labels_T", "word_T"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.words, found.sentences, found.names) == (expected.words, expected.sentences, expected.names)
    assert (found.skips_first, found.n_spans_lost) == (skip_first, expected.n_spans_lost)


def test_none_where_the_sample_is_not_the_text(tiny_model: LanguageModel, tiny_concept: Concept, tiny_shapes: Concept):
    neurons = NeuronSet([0], tiny_model.shape)
    without = saliency.scan(tiny_model, [tiny_concept], sampled=False)
    assert activations_from_scan(tiny_model, without, tiny_concept.name, neurons) is None
    both = saliency.scan(tiny_model, [tiny_concept, tiny_shapes])
    assert activations_from_scan(tiny_model, both, tiny_concept.name, neurons) is None
    whole = saliency.scan(tiny_model, [tiny_concept])
    assert whole.sample is not None
    part = whole.sample.concepts[tiny_concept.name]
    thinned = replace(part, weights=part.weights * 2)
    part_scan = replace(whole, sample=replace(whole.sample, concepts={tiny_concept.name: thinned}))
    assert activations_from_scan(tiny_model, part_scan, tiny_concept.name, neurons) is None


def test_heads_and_strange_neurons_are_refused(tiny_model: LanguageModel, tiny_concept: Concept):
    scan = saliency.scan(tiny_model, [tiny_concept])
    with pytest.raises(ConfigError, match="Choose them from this model"):
        activations_from_scan(tiny_model, scan, tiny_concept.name, NeuronSet([0], (3, 47)))
    heads = saliency.scan(tiny_model, [tiny_concept], site=HEADS)
    with pytest.raises(ConfigError, match="no single activation"):
        activations_from_scan(tiny_model, heads, tiny_concept.name, NeuronSet([0], (3, 4)))


def test_a_scan_scores_as_measure_does(tiny_model: LanguageModel, tiny_concept: Concept):
    scan = saliency.scan(tiny_model, [tiny_concept])
    methods = [*saliency.MOMENT_METHODS, *saliency.SAMPLE_METHODS]
    shares: list[float] = []
    for method, expected in zip(methods, saliency.measure(tiny_model, [tiny_concept], methods=methods)):
        found = scan.score(tiny_concept.name, method, progress=shares.append)
        np.testing.assert_array_equal(found.scores_LN, expected.scores_LN)
        assert found.provenance == expected.provenance
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])  # the probe, a layer at a time
    first, second = scan.halves(tiny_concept.name, "probeless")
    whole = scan.score(tiny_concept.name, "probeless")
    assert first.n_concept_tokens + second.n_concept_tokens == whole.n_concept_tokens
    with pytest.raises(ConfigError, match="passes of its own"):
        scan.score(tiny_concept.name, "attribution_patching")
    with pytest.raises(ConfigError, match="Halves"):
        scan.halves(tiny_concept.name, "probe")
