"""Traces whose numbers are written down in a test: one token a word, no model."""

from collections.abc import Sequence

import numpy as np

from analysis.components.neurons import NeuronSet
from analysis.components.sites import MLP
from analysis.concepts import Sentence
from analysis.neuron_cards.token_activations import TokenActivations, split_words


def written_activations(
    texts: Sequence[str], values_TK: Sequence[Sequence[float]], labels: Sequence[str] = ()
) -> TokenActivations:
    """Every word of `texts` is one token; the tokens of the words in `labels` are labelled."""
    words = [
        type(word)(word.text, word.start, word.end, s) for s, text in enumerate(texts) for word in split_words(text)
    ]
    values = np.array(values_TK, dtype=np.float32)
    assert len(values) == len(words)
    return TokenActivations(
        model="by hand",
        site=MLP,
        neurons=NeuronSet(range(values.shape[1]), (2, values.shape[1])),
        sentences=tuple(Sentence(text) for text in texts),
        values_TK=values,
        ids_T=np.arange(len(words), dtype=np.int32),
        sentence_T=np.array([word.sentence for word in words], dtype=np.int32),
        offsets_T2=np.array([(word.start, word.end) for word in words], dtype=np.int32),
        labels_T=np.array([word.text in labels for word in words]),
        word_T=np.arange(len(words)),
        words=tuple(words),
        skips_first=False,
        n_cut=0,
        n_spans_lost=0,
    )
