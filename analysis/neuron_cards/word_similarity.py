"""Cosine similarity between a neuron's top words before and after an edit.

Concept similarity (Lo, Cohen & Barez 2024): the cosine between the mean embedding of a neuron's top words before an edit
and after it. The paper uses FastText vectors; `InputEmbedding` uses the model's own input embeddings,
centred, so that nothing has to be downloaded. Any function from words to vectors can replace it.

Axes: `K` chosen neuron, `W` word, `D` dimension of the embedding, `V` vocabulary.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from analysis.errors import ConfigError
from analysis.models import LanguageModel

__all__ = ["Embedding", "InputEmbedding", "word_similarity"]

Embedding = Callable[[Sequence[str]], np.ndarray]
"""Turns words into vectors, [W, D]; a word without a vector gets a row of NaN."""


class InputEmbedding:
    """Embeds a word as the mean of its tokens' input embeddings minus the mean over the vocabulary.

    A word is tokenised with a space before it, as inside a sentence. All input embeddings of a model share a large
    common component; without centring any two words would look alike.
    """

    def __init__(self, model: LanguageModel):
        self.model = model
        with torch.inference_mode():
            self.weight_VD = model.input_embeddings_VD.float().cpu().numpy().copy()
        self.mean_D = self.weight_VD.mean(axis=0, dtype=np.float64)

    def __call__(self, words: Sequence[str]) -> np.ndarray:
        """Vectors of the words, float64 [W, D]; NaN for a word without tokens."""
        vectors_WD = np.full((len(words), self.mean_D.size), np.nan)
        for w, word in enumerate(words):
            text = f" {word}"
            encoded = self.model.encode(text)
            ids = [i for i, (start, end) in zip(encoded.ids, encoded.offsets) if text[start:end].strip()]
            if ids:
                vectors_WD[w] = self.weight_VD[ids].mean(axis=0, dtype=np.float64) - self.mean_D
        return vectors_WD


def word_similarity(
    before_K: Sequence[Sequence[str]], after_K: Sequence[Sequence[str]], embedding: Embedding
) -> np.ndarray:
    """Cosine between the mean embeddings of two lists of words for each neuron, float64 [K].

    NaN where both lists have the same words in any order, or one has no word with a vector.
    """
    changed_K = np.array([set(a) != set(b) for a, b in zip(before_K, after_K)], dtype=bool)
    values_K = _cosine(_mean_vectors(before_K, embedding), _mean_vectors(after_K, embedding))
    return np.where(changed_K, values_K, np.nan)


def _mean_vectors(words_K: Sequence[Sequence[str]], embedding: Embedding) -> np.ndarray:
    """Mean vector of each list of words, [K, D]; NaN for a list without any vector."""
    vocabulary = list(dict.fromkeys(word for words in words_K for word in words))
    place = {word: w for w, word in enumerate(vocabulary)}
    vectors_WD = np.asarray(embedding(vocabulary), dtype=np.float64) if vocabulary else np.empty((0, 1))
    if vectors_WD.ndim != 2 or len(vectors_WD) != len(vocabulary):
        raise ConfigError(
            f"The embedding returned shape {vectors_WD.shape} for {len(vocabulary)} words; return one row per word."
        )
    known = set(np.flatnonzero(np.isfinite(vectors_WD).all(axis=1)).tolist())
    means_KD = np.full((len(words_K), vectors_WD.shape[1]), np.nan)
    for k, words in enumerate(words_K):
        rows = [place[word] for word in words if place[word] in known]
        if rows:
            means_KD[k] = vectors_WD[rows].mean(axis=0)
    return means_KD


def _cosine(a_KD: np.ndarray, b_KD: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows; NaN where a row is NaN or all zeros."""
    if a_KD.shape[1] != b_KD.shape[1]:  # a side without any words has an unknown width
        return np.full(max(len(a_KD), len(b_KD)), np.nan)
    lengths = np.linalg.norm(a_KD, axis=1) * np.linalg.norm(b_KD, axis=1)
    products = (a_KD * b_KD).sum(axis=1)
    return np.divide(products, lengths, out=np.full_like(products, np.nan), where=lengths > 0)
