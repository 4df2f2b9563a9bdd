"""Similarity of words: by hand, and with a model's own embedding."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from analysis.errors import ConfigError
from analysis.models import LanguageModel
from analysis.neuron_cards.word_similarity import InputEmbedding, word_similarity
from tests.raw_model import raw

VECTORS = {"east": (1, 0), "north": (0, 1), "west": (-1, 0), "northeast": (1, 1), "nowhere": (np.nan, np.nan)}


def compass(words: Sequence[str]) -> np.ndarray:
    return np.array([VECTORS[word] for word in words], dtype=float).reshape(-1, 2)


def test_cosine_of_mean_vectors():
    before = [("east", "north"), ("east",), ("east",), ("north", "east")]
    after = [("east",), ("west",), ("north",), ("northeast",)]
    np.testing.assert_allclose(word_similarity(before, after, compass), [np.sqrt(0.5), -1, 0, 1], atol=1e-12)


def test_neurons_whose_words_stayed_or_have_no_vector_are_left_out():
    before = [("east", "north"), (), ("east",), ("nowhere",), ()]
    after = [("north", "east"), ("east",), ("east", "nowhere"), ("east",), ()]
    np.testing.assert_allclose(word_similarity(before, after, compass), [np.nan, np.nan, 1, np.nan, np.nan])


def test_a_side_without_any_words():
    assert np.isnan(word_similarity([(), ()], [("east",), ("north",)], compass)).all()


def test_an_embedding_of_another_number_of_words_is_refused():
    with pytest.raises(ConfigError, match="one row per word"):
        word_similarity([("east",)], [("west",)], lambda words: np.zeros((7, 2)))


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
