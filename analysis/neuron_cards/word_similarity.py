"""Cosine similarity between a neuron's top words before and after an edit, and between them and a concept's words.

Concept similarity (Lo, Cohen & Barez 2024): the cosine between the mean embedding of a neuron's top words before an edit
and after it. The paper uses FastText vectors; `InputEmbedding` uses the model's own input embeddings,
centred, so that nothing has to be downloaded. Any function from words to vectors can replace it.

Axes: `K` chosen neuron, `W` word, `D` dimension of the embedding, `V` vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats

from analysis.components.neurons import NeuronSet
from analysis.components.sites import Site
from analysis.concepts import Concept
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.neuron_cards.token_activations import split_words
from analysis.neuron_cards.top_words import WordScores

__all__ = [
    "ConceptSimilarity",
    "Embedding",
    "InputEmbedding",
    "concept_similarity",
    "concept_words",
    "layer_means",
    "similarity_to_words",
    "word_similarity",
]

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


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptSimilarity:
    """Similarity of each neuron's words after an edit to its words before it."""

    neurons: NeuronSet
    site: Site
    values_K: np.ndarray
    """Cosine, -1 to 1, float64; NaN if the set of words did not change, or either side has no word with a vector."""
    changed_K: np.ndarray
    """Whether the set of words changed, bool. The paper leaves out neurons whose words did not change."""
    shared_K: np.ndarray
    """Jaccard index: words on both sides / words on either side, float64; NaN if neither side has words."""

    def table(self) -> pd.DataFrame:
        """One row per neuron: neuron, layer, similarity, changed, shared_words."""
        neurons = list(self.neurons)
        return pd.DataFrame(
            {
                "neuron": [self.site.label(neuron.layer, neuron.index) for neuron in neurons],
                "layer": [neuron.layer for neuron in neurons],
                "similarity": self.values_K,
                "changed": self.changed_K,
                "shared_words": self.shared_K,
            }
        )


def concept_similarity(before: WordScores, after: WordScores, embedding: Embedding) -> ConceptSimilarity:
    """Cosine between the mean embeddings of each neuron's words before and after.

    Use the unedited model's embedding for both sides, because training may change the model's own.

    Raises:
        ConfigError: the scores are of different neurons or were made with different settings.
    """
    if before.neurons != after.neurons or before.site != after.site:
        raise ConfigError("The words before and after are of different neurons. Use the same neurons for both.")
    settings = [(one.aggregate, one.fold_case, one.minimum, one.top) for one in (before, after)]
    if settings[0] != settings[1]:
        raise ConfigError("The words before and after were chosen with different settings. Use the same ones for both.")
    sets = [(set(a), set(b)) for a, b in zip(before.words_K, after.words_K)]
    return ConceptSimilarity(
        neurons=before.neurons,
        site=before.site,
        values_K=word_similarity(before.words_K, after.words_K, embedding),
        changed_K=np.array([a != b for a, b in sets]),
        shared_K=np.array([len(a & b) / len(a | b) if a | b else np.nan for a, b in sets]),
    )


def word_similarity(
    before_K: Sequence[Sequence[str]], after_K: Sequence[Sequence[str]], embedding: Embedding
) -> np.ndarray:
    """Cosine between the mean embeddings of two lists of words for each neuron, float64 [K].

    NaN where both lists have the same words in any order, or one has no word with a vector.
    """
    changed_K = np.array([set(a) != set(b) for a, b in zip(before_K, after_K)], dtype=bool)
    values_K = _cosine(_mean_vectors(before_K, embedding), _mean_vectors(after_K, embedding))
    return np.where(changed_K, values_K, np.nan)


def concept_words(concept: Concept) -> tuple[str, ...]:
    """The distinct words that a concept labels in its sentences, in order, without punctuation."""
    words: dict[str, None] = {}
    for sentence in concept.labelled_sentences():
        for start, end in sentence.spans:
            words |= {word.text: None for word in split_words(sentence.text[start:end]) if _has_letters(word.text)}
    return tuple(words)


def similarity_to_words(words: WordScores, targets: Sequence[str], embedding: Embedding) -> np.ndarray:
    """Cosine between the mean embedding of each neuron's words and that of `targets`, float64 [K].

    With a concept's words as `targets`, before an edit, it measures how close a neuron already was to the concept;
    `concept_profiles.priming` compares this with later saliency. NaN for a neuron without words.

    Raises:
        ConceptError: no target has a vector.
    """
    target_1D = _mean_vectors([tuple(targets)], embedding)
    if not np.isfinite(target_1D).all():
        raise ConceptError("None of the concept's words has an embedding. Label words in its sentences.")
    return _cosine(_mean_vectors(words.words_K, embedding), target_1D)


def layer_means(neurons: NeuronSet, values_K: np.ndarray, *, level: float = 0.95) -> pd.DataFrame:
    """Mean of a value over each layer's neurons, with the confidence interval of Student's t.

    NaN values are left out; a layer with fewer than two values has no interval. Neurons are treated as independent.

    Returns:
        One row per layer: layer, n, mean, low, high.
    """
    if not 0 < level < 1:
        raise ConfigError(f"The confidence level is {level}; it must lie between 0 and 1, such as 0.95.")
    layers_K = neurons.flat // neurons.shape[1]
    rows = []
    for layer in range(neurons.shape[0]):
        values = values_K[(layers_K == layer) & np.isfinite(values_K)]
        n = values.size
        mean = values.mean() if n else np.nan
        half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
        rows.append({"layer": layer, "n": n, "mean": mean, "low": mean - half, "high": mean + half})
    return pd.DataFrame(rows)


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


def _has_letters(text: str) -> bool:
    return any(char.isalnum() for char in text)
