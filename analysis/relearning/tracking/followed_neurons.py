"""Records the top words of a few neurons at every snapshot, in the pass that measures saliency.

Axes: `T` token of the concept's sentences, `K` followed neuron, `W` word, `D` dimension of the embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from analysis.components.neurons import NeuronSet, hook_name
from analysis.components.sites import MLP
from analysis.concepts import Concept
from analysis.models import LanguageModel
from analysis.neuron_cards.token_activations import TokenActivations, _assembled, _read, split_words
from analysis.neuron_cards.top_words import word_scores
from analysis.neuron_cards.word_similarity import InputEmbedding, word_similarity
from analysis.scoring.batches import MAX_LENGTH, LabelledText

__all__ = ["FollowedNeurons", "WordVectors", "choose_followed"]

Words = dict[int, tuple[str, ...]]


def choose_followed(scores_LN: np.ndarray, edited: NeuronSet, pinned: str, top: int) -> NeuronSet:
    """The pinned neurons and the `top` most salient ones that are not edited.

    Raises:
        EditError: a pinned neuron lies outside the model.
    """
    chosen = NeuronSet.parse(pinned, edited.shape)
    order = np.argsort(-scores_LN, axis=None, kind="stable")
    free = order[~np.isin(order, edited.flat)][:top]
    return NeuronSet(np.union1d(chosen.flat, free), edited.shape)


class WordVectors:
    """The unedited model's embedding vectors of all words in a concept's sentences, looked up once.

    Create it before the model is changed: training moves the embeddings that the vectors come from.
    """

    def __init__(self, model: LanguageModel, concept: Concept):
        texts = (sentence.text for sentence in concept.labelled_sentences())
        words = sorted({word.text for text in texts for word in split_words(text)})
        self._place = {word: w for w, word in enumerate(words)}
        self._vectors_WD = InputEmbedding(model)(words)

    def __call__(self, words: Sequence[str]) -> np.ndarray:
        """Vectors of these words, float64 [W, D]."""
        return self._vectors_WD[[self._place[word] for word in words]]


class FollowedNeurons:
    """Keeps the followed neurons' activations in a pass, and finds the words that activate them most."""

    def __init__(
        self,
        model: LanguageModel,
        text: LabelledText,
        concept: Concept,
        neurons: NeuronSet,
        vectors: WordVectors,
        skip_first: bool = True,
    ):
        """Prepare everything that does not change.

        Args:
            model: The model.
            text: The text that the pass runs over; the concept's sentences come first in it.
            concept: The concept whose sentences the words are taken from.
            neurons: The neurons to follow.
            vectors: Embedding vectors of the words.
            skip_first: The same as when `text` was made: leave out each sentence's first word.
        """
        self.neurons, self._vectors = neurons, vectors
        sentences = concept.labelled_sentences()
        limit = min(MAX_LENGTH, model.context_length)
        rows = [_read(model, sentence, limit, skip_first) for sentence in sentences]
        lengths = [len(row.kept) for row in rows]
        starts = np.cumsum([0, *lengths])
        self._kept_TK = torch.zeros(int(starts[-1]), len(neurons), device=model.device)
        self._trace = _assembled(
            model, sentences, neurons, MLP, rows, np.zeros(self._kept_TK.shape, np.float32), skip_first
        )
        self._places: list[tuple[Tensor, Tensor]] = []
        for batch in text.batches:
            width = batch.tokens_BP.shape[1]
            mine = [(b, s) for b, s in enumerate(batch.sentences) if s < len(rows)]
            source = [b * width + p for b, s in mine for p in rows[s].kept]
            target = [starts[s] + t for _, s in mine for t in range(lengths[s])]
            self._places.append(
                tuple(torch.tensor(one, dtype=torch.long, device=model.device) for one in (source, target))  # type: ignore[arg-type]
            )

    def hooks(self) -> list[tuple[str, Callable]]:
        """Hooks for one pass over the whole text; the next pass needs new ones."""
        first_column = np.cumsum(self.neurons.counts()) - self.neurons.counts()
        return [
            (hook_name(layer), self._hook(chosen, int(first_column[layer])))
            for layer, chosen in self.neurons.by_layer().items()
        ]

    def _hook(self, chosen: np.ndarray, column: int) -> Callable:
        index = torch.from_numpy(chosen).to(self._kept_TK.device)
        batches = iter(self._places)

        def keep(activation: Tensor, hook: object) -> None:
            source, target = next(batches)
            values = activation.detach().flatten(0, 1).index_select(0, source).index_select(1, index)
            self._kept_TK[:, column : column + len(index)].index_copy_(0, target, values.float())

        return keep

    def kept(self) -> Tensor:
        """Activations kept in the last pass, float32 [T, K] on the device."""
        return self._kept_TK.clone()

    def words(self, values_TK: np.ndarray) -> Words:
        """Flat index of every neuron -> its highest activating words, strongest first; empty if its activation is constant."""
        found = word_scores(self._traced(values_TK)).words_K
        return dict(zip(self.neurons.flat.tolist(), found))

    def similarity(self, words: Words, base: Mapping[int, tuple[str, ...]]) -> dict[int, float]:
        """Flat index -> cosine of the mean embeddings of a neuron's words now and in the base; absent if the set did not change."""
        shared = [neuron for neuron in words if neuron in base]
        values_K = word_similarity([base[one] for one in shared], [words[one] for one in shared], self._vectors)
        return {neuron: float(value) for neuron, value in zip(shared, values_K) if np.isfinite(value)}

    def _traced(self, values_TK: np.ndarray) -> TokenActivations:
        return replace(self._trace, values_TK=values_TK)
