"""Traces against a cache of everything, one sentence at a time."""

import numpy as np
import pytest
import torch

from analysis import saliency
from analysis.components.neurons import Neuron, NeuronSet
from analysis.components.sites import HEADS, MLP, RESIDUAL, Site
from analysis.concepts import Concept, Sentence
from analysis.errors import ConceptError, ConfigError, MemoryShortError, ModelFileError
from analysis.models import LanguageModel
from analysis.neuron_cards.token_activations import split_words, token_activations
from tests.raw_model import bridge, raw


def some_neurons(model: LanguageModel, site: Site = MLP) -> NeuronSet:
    width = model.n_neurons if site == MLP else model.d_model
    return NeuronSet([3, 0, width - 1, width + 7, (model.n_layers - 1) * width + 11], (model.n_layers, width))


@pytest.mark.parametrize("site", [MLP, RESIDUAL], ids=lambda site: site.name)
@pytest.mark.parametrize("tokens_per_batch", [1, 40, 4096])
def test_values_equal_a_full_cache(
    either_model: LanguageModel, tiny_concept: Concept, site: Site, tokens_per_batch: int
):
    neurons = some_neurons(either_model, site)
    found = token_activations(
        either_model, tiny_concept.sentences, neurons, site=site, tokens_per_batch=tokens_per_batch
    )
    expected, ids, sentences = [], [], []
    for s, sentence in enumerate(tiny_concept.sentences):
        encoded = either_model.encode(sentence.text)
        with torch.inference_mode():
            _, cache = bridge(either_model).run_with_cache(torch.tensor([encoded.ids]))
        columns = [cache[site.hook(neuron.layer)][0, :, neuron.index].numpy() for neuron in neurons]
        expected.append(np.stack(columns, axis=1))
        ids += encoded.ids
        sentences += [s] * len(encoded)
    assert found.values_TK.dtype == np.float32
    np.testing.assert_allclose(found.values_TK, np.concatenate(expected), rtol=1e-4, atol=1e-5)
    assert found.ids_T.tolist() == ids
    assert found.sentence_T.tolist() == sentences
    assert (found.n_cut, found.n_spans_lost) == (0, 0)
    assert found.names[:2] == (("L0.N0", "L0.N3") if site == MLP else ("L0.D0", "L0.D3"))


@pytest.mark.parametrize("skip_first", [True, False])
def test_saliency_from_a_trace_is_saliency(either_model: LanguageModel, tiny_concept: Concept, skip_first: bool):
    """The same tokens count and carry the same labels as in the streaming pass."""
    neurons = some_neurons(either_model)
    found = token_activations(either_model, tiny_concept.sentences, neurons, skip_first=skip_first)
    own, other = found.values_TK[found.labels_T], found.values_TK[~found.labels_T]
    (expected,) = saliency.measure(either_model, [tiny_concept], skip_first=skip_first)
    assert (len(own), len(other)) == (expected.n_concept_tokens, expected.n_other_tokens)
    scores = np.abs(own.mean(0, dtype=np.float64) - other.mean(0, dtype=np.float64))
    np.testing.assert_allclose(scores, expected.scores_LN.ravel()[neurons.flat], rtol=1e-4)


def test_tokens_know_their_words_labels_and_characters(tiny_model: LanguageModel, mark):
    sentences = [mark("Rome (the *Eternal* City) is  old."), mark("Züri, *東京*!")]
    found = token_activations(tiny_model, sentences, some_neurons(tiny_model))
    texts = [sentence.text for sentence in sentences]
    assert [word.text for word in found.words if word.sentence == 0] == "Rome ( the Eternal City ) is old .".split()
    assert [word.text for word in found.words if word.sentence == 1] == ["Züri", ",", "東京", "!"]
    for row, (s, (start, end), w) in enumerate(zip(found.sentence_T, found.offsets_T2.tolist(), found.word_T)):
        piece = texts[s][start:end]
        if not piece.strip():
            assert w == -1
            continue
        first = start + len(piece) - len(piece.lstrip())
        assert found.words[w].sentence == s
        assert found.words[w].start <= first < found.words[w].end
        labelled = {(0, "Eternal"), (1, "東京")}
        assert found.labels_T[row] == ((s, found.words[w].text) in labelled)
    # every word has a token, and the rows of a sentence are found again
    assert set(found.word_T) - {-1} == set(range(len(found.words)))
    assert found.sentence_T[found.rows(1)].tolist() == [1] * (found.sentence_T == 1).sum()
    assert found.rows(0).stop == found.rows(1).start


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a state-of-the-art, U.S. “idea”...", "It's a state-of-the-art , U.S . “ idea ”...".split()),
        ("  two\nlines\t", ["two", "lines"]),
        (", -- !", [",", "--", "!"]),
        ("5% of $7 (x)", ["5", "%", "of", "$7", "(", "x", ")"]),
        ("", []),
    ],
)
def test_words_are_split_like_a_corpus(text: str, words: list[str]):
    found = split_words(text)
    assert [word.text for word in found] == words
    assert [text[word.start : word.end] for word in found] == words


def test_what_is_cut_is_counted(tiny_model: LanguageModel, tiny_concept: Concept):
    full = token_activations(tiny_model, tiny_concept.sentences, some_neurons(tiny_model))
    cut = token_activations(tiny_model, tiny_concept.sentences, some_neurons(tiny_model), max_length=8)
    assert np.bincount(cut.sentence_T).tolist() == [8] * len(tiny_concept.sentences)
    assert cut.n_cut == len(full.ids_T) - len(cut.ids_T) > 0
    assert cut.n_spans_lost > 0
    whole = np.concatenate([full.values_TK[full.rows(s)][:8] for s in range(len(tiny_concept.sentences))])
    np.testing.assert_allclose(cut.values_TK, whole, rtol=1e-4, atol=1e-5)


def test_the_head_is_skipped_and_the_model_unchanged(tiny_model: LanguageModel, tiny_concept: Concept):
    def forbidden(*arguments):
        raise AssertionError("the LM head was run")

    tokens = torch.tensor([tiny_model.encode("The train").ids])
    before = tiny_model.residual(tokens)
    handle = raw(tiny_model).get_output_embeddings().register_forward_pre_hook(forbidden)
    try:
        token_activations(tiny_model, tiny_concept.sentences, some_neurons(tiny_model))
    finally:
        handle.remove()
    torch.testing.assert_close(tiny_model.residual(tokens), before, rtol=0, atol=0)


def test_columns_are_found_by_name(tiny_model: LanguageModel, tiny_concept: Concept):
    found = token_activations(tiny_model, tiny_concept.sentences, some_neurons(tiny_model))
    assert [found.column(neuron) for neuron in found.neurons] == [0, 1, 2, 3, 4]
    # flat index 48 is L1.N0: L0.N48 must not be taken for it
    for absent in (Neuron(0, 4), Neuron(0, 48 + 7), Neuron(2, 47)):
        with pytest.raises(ConfigError, match=rf"{absent} was not recorded"):
            found.column(absent)


@pytest.mark.parametrize("layer", [0, 2])
def test_activations_that_are_not_finite_name_the_layer(tiny_model: LanguageModel, tiny_concept: Concept, layer: int):
    with torch.no_grad():
        tiny_model.neuron_weights(layer)[0].parameter[5, 3] = float("nan")
    neurons = NeuronSet([layer * 48 + 5], tiny_model.shape)
    with pytest.raises(ModelFileError, match=rf"blocks\.{layer}\.mlp\.hook_post.*not finite"):
        token_activations(tiny_model, tiny_concept.sentences, neurons)


def test_memory_is_checked_before_the_pass(
    tiny_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("analysis.neuron_cards.token_activations.free_bytes", lambda device: 100)
    monkeypatch.setattr(tiny_model, "residual", lambda tokens: pytest.fail("the model was run"))
    with pytest.raises(MemoryShortError, match=r"Keeping 5 neurons.*fewer neurons"):
        token_activations(tiny_model, tiny_concept.sentences, some_neurons(tiny_model))


def test_nonsense_is_refused(tiny_model: LanguageModel, tiny_concept: Concept):
    sentences, neurons = tiny_concept.sentences, some_neurons(tiny_model)
    with pytest.raises(ConceptError, match="no sentences"):
        token_activations(tiny_model, [], neurons)
    with pytest.raises(ConfigError, match="No neuron is chosen"):
        token_activations(tiny_model, sentences, NeuronSet([], tiny_model.shape))
    with pytest.raises(ConfigError, match=r"3 layers of 48.*3 layers of 32"):
        token_activations(tiny_model, sentences, neurons, site=RESIDUAL)
    with pytest.raises(ConfigError, match="Attention heads have no single activation"):
        token_activations(tiny_model, sentences, neurons, site=HEADS)
    with pytest.raises(ConceptError, match="No token"):
        token_activations(tiny_model, [Sentence("R")], neurons, skip_first=True)
