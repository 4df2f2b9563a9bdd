"""Measures P(word): how strongly the model still predicts a concept's labelled words in their sentences.

This is the measure of forgetting for a concept that is only labelled words. For a concept with facts it shows whether an
edit also removed the words themselves.

Axes: `B` batch, `P` position.
"""

from collections import defaultdict
from itertools import islice

import numpy as np
import torch

from analysis.concepts import Concept, Sentence
from analysis.errors import ConceptError
from analysis.evaluation import intervals
from analysis.evaluation.result import Measure
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.scoring.batches import MAX_LENGTH, bucket, pad, span_tokens
from analysis.scoring.factual_recall import token_losses

__all__ = ["MAX_SENTENCES", "beginnings", "labelled_words"]

MAX_SENTENCES = 64
"""Most sentences that are scored, drawn with the seed: enough for an interval, few enough to score after every edit."""
_TOKENS_PER_BATCH = 1024


def labelled_words(model: LanguageModel, concept: Concept, *, seed: int = 0) -> Measure:
    """P(word): the probability of a labelled word (the product over its tokens) given the text before it.

    Averaged over the words of a sentence, then over sentences; sentences that state the same count as one. A word that
    comes first in its sentence, or is cut off, is left out.

    Args:
        model: The model.
        concept: The concept whose sentences are scored.
        seed: Draws the sentences if there are more than `MAX_SENTENCES`.

    Raises:
        ConceptError: no labelled word has a word before it.
        ModelFileError: logits are not finite.
    """
    labelled = [sentence for sentence in concept.sentences if sentence.spans]
    drawn = (_row(model, labelled[i]) for i in np.random.default_rng(seed).permutation(len(labelled)))
    asked = list(islice((row for row in drawn if row[1]), MAX_SENTENCES))
    if not asked:
        raise ConceptError(
            f"“{concept.name}” has no sentence with a labelled word that has a word before it, so none can be predicted. "
            "Add such sentences."
        )
    p_by_sentence: dict[str, list[float]] = defaultdict(list)
    with torch.inference_mode(), model.lock:
        for chosen in bucket([len(ids) for ids, _, _ in asked], _TOKENS_PER_BATCH):
            rows = [asked[i] for i in chosen]
            tokens_BP = pad([ids for ids, _, _ in rows], model)
            lengths_B = torch.tensor([len(ids) for ids, _, _ in rows], device=model.device)
            losses_BP = token_losses(model.logits(tokens_BP), tokens_BP, lengths_B).cpu().double()
            check_finite(model, losses_BP)
            for (_, words, key), losses_P in zip(rows, losses_BP.numpy()):
                # the loss of the token at position p stands at p - 1
                p = [float(np.exp(-losses_P[[position - 1 for position in word]].sum())) for word in words]
                p_by_sentence[key].append(float(np.mean(p)))
    p_S = [float(np.mean(values)) for values in p_by_sentence.values()]
    count = sum(len(words) for _, words, _ in asked)
    note = f"{count} word{'s' * (count > 1)}"
    return intervals.mean("labelled_words", p_S, counts="sentences", unit="P(word)", note=note)


def beginnings(model: LanguageModel, concept: Concept, count: int = 2) -> tuple[str, ...]:
    """Return the concept's first sentences, each cut before its labelled word; empty or too long ones are skipped."""
    texts = (sentence.text[: sentence.spans[0][0]].rstrip() for sentence in concept.sentences if sentence.spans)
    return tuple(islice((text for text in texts if text and len(model.encode(text)) < model.context_length), count))


def _row(model: LanguageModel, sentence: Sentence) -> tuple[tuple[int, ...], list[list[int]], str]:
    """Return the tokens, the positions of each whole word that has a word before it, and a key for what is stated."""
    encoded = model.encode(sentence.text)
    ids = tuple(encoded.ids[: min(MAX_LENGTH, model.context_length)])
    words = [span_tokens(encoded, *span) for span in sentence.spans if sentence.text[: span[0]].strip()]
    whole = [word for word in words if word and word[0] > 0 and word[-1] < len(ids)]
    return ids, whole, sentence.about or sentence.text
