"""Similarity of words: by hand, and with a model's own embedding."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import stats

from analysis.components.neurons import NeuronSet
from analysis.concepts import Concept, Sentence
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.neuron_cards.top_words import WordScores, word_scores
from analysis.neuron_cards.word_similarity import (
    InputEmbedding,
    concept_similarity,
    concept_words,
    layer_means,
    similarity_to_words,
)
from tests.neuron_cards.written_activations import written_activations
from tests.raw_model import raw

VECTORS = {"east": (1, 0), "north": (0, 1), "west": (-1, 0), "northeast": (1, 1), "nowhere": (np.nan, np.nan)}


def compass(words: Sequence[str]) -> np.ndarray:
    return np.array([VECTORS[word] for word in words], dtype=float).reshape(-1, 2)


def words_of(*words_K: tuple[str, ...]) -> WordScores:
    """Word scores of which only the words matter."""
    found = word_scores(written_activations(["a b"], [[0.0] * len(words_K)] * 2))
    object.__setattr__(found, "words_K", words_K)
    return found


def test_cosine_of_mean_vectors():
    before = words_of(("east", "north"), ("east",), ("east",), ("north", "east"))
    after = words_of(("east",), ("west",), ("north",), ("northeast",))
    found = concept_similarity(before, after, compass)
    np.testing.assert_allclose(found.values_K, [np.sqrt(0.5), -1, 0, 1], atol=1e-12)
    assert found.changed_K.all()
    np.testing.assert_allclose(found.shared_K, [0.5, 0, 0, 0])


def test_neurons_whose_words_stayed_or_have_no_vector_are_left_out():
    before = words_of(("east", "north"), (), ("east",), ("nowhere",), ())
    after = words_of(("north", "east"), ("east",), ("east", "nowhere"), ("east",), ())
    found = concept_similarity(before, after, compass)
    np.testing.assert_allclose(found.values_K, [np.nan, np.nan, 1, np.nan, np.nan])
    assert found.changed_K.tolist() == [False, True, True, True, False]
    np.testing.assert_allclose(found.shared_K, [1, 0, 0.5, 0, np.nan])
    table = found.table()
    assert table.columns.tolist() == ["neuron", "layer", "similarity", "changed", "shared_words"]
    assert table["neuron"].tolist() == [f"L0.N{k}" for k in range(5)]


def test_a_side_without_any_words():
    found = concept_similarity(words_of((), ()), words_of(("east",), ("north",)), compass)
    assert np.isnan(found.values_K).all()


def test_similarity_to_a_concepts_words():
    values = similarity_to_words(words_of(("east",), ("north", "west"), ()), ["east", "nowhere"], compass)
    np.testing.assert_allclose(values, [1, -np.sqrt(0.5), np.nan])
    with pytest.raises(ConceptError, match="Label words"):
        similarity_to_words(words_of(("east",)), ["nowhere"], compass)
    with pytest.raises(ConceptError, match="Label words"):
        similarity_to_words(words_of(("east",)), [], compass)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ConfigError, match="different neurons"):
        concept_similarity(words_of(("east",)), words_of(("east",), ("east",)), compass)
    other = word_scores(written_activations(["a b"], [[0.0], [0.0]]), fold_case=True)
    with pytest.raises(ConfigError, match="different settings"):
        concept_similarity(words_of(("east",)), other, compass)
    with pytest.raises(ConfigError, match="one row per word"):
        concept_similarity(words_of(("east",)), words_of(("west",)), lambda words: np.zeros((7, 2)))


def test_concept_words_are_its_spans_without_punctuation(mark):
    concept = Concept(
        name="places",
        title="Places",
        sentences=(mark("To *New York* and *Oslo,* then *Oslo*."), mark("*“St. Ives”*"), Sentence("Nothing here.")),
    )
    assert concept_words(concept) == ("New", "York", "Oslo", "St", "Ives")


def test_input_embedding_is_the_centred_mean_of_a_words_tokens(either_model: LanguageModel):
    weight = raw(either_model).get_input_embeddings().weight.detach().double().numpy()
    words = ["Paris", "kettle", "Xylophonist", "Zürich", " "]
    vectors = InputEmbedding(either_model)(words)
    for word, vector in zip(words[:4], vectors):
        ids = either_model.tokenizer(f" {word}")["input_ids"]
        own = [weight[i] for i in ids if either_model.decode([i]).strip()]  # a space by itself is not the word's
        expected = np.stack(own).mean(0) - weight.mean(0)
        np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=1e-7)
    assert np.isnan(vectors[4]).all()
    # how the word stands in a sentence: with a space before it
    assert either_model.encode(" Paris").ids != either_model.encode("Paris").ids


def test_input_embedding_keeps_the_vectors_it_was_made_with(tiny_model: LanguageModel):
    embedding = InputEmbedding(tiny_model)
    before = embedding(["Paris"])
    with torch.no_grad():
        raw(tiny_model).get_input_embeddings().weight.zero_()
    np.testing.assert_array_equal(embedding(["Paris"]), before)


def test_layer_means_have_student_intervals():
    values = np.array([1.0, 2.0, 4.0, np.nan, 7.0])
    table = layer_means(NeuronSet([0, 1, 2, 3, 5], (3, 4)), values)
    assert table[["layer", "n"]].values.tolist() == [[0, 3], [1, 1], [2, 0]]
    low, high = stats.t.interval(0.95, 2, loc=values[:3].mean(), scale=stats.sem(values[:3]))
    np.testing.assert_allclose(table.loc[0, ["mean", "low", "high"]].astype(float), [7 / 3, low, high])
    assert table.loc[1, "mean"] == 7
    assert table.loc[1:, ["low", "high"]].isna().all(axis=None)
    with pytest.raises(ConfigError, match="confidence level"):
        layer_means(NeuronSet([0], (1, 1)), np.array([1.0]), level=95)
