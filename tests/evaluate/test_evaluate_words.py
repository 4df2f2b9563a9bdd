"""P(word) of labelled words: by hand on a tiny model, and what counts as one case."""

from dataclasses import replace

import pytest
import torch

from analysis.concepts import Concept, Sentence
from analysis.errors import ConceptError, ModelFileError
from analysis.evaluate import baseline, evaluate
from analysis.evaluate.words import MAX_SENTENCES, labelled_words
from analysis.models import LanguageModel


def words(*sentences: Sentence) -> Concept:
    return Concept(name="words", title="Words", sentences=sentences)


def by_hand(model: LanguageModel, text: str, start: int, end: int) -> float:
    """P of the characters [start, end) given those before, one token after the other."""
    encoded = model.encode(text)
    with torch.inference_mode():
        log_p = model.logits(torch.tensor([encoded.ids]))[0].float().log_softmax(-1)
    positions = [i for i, (a, b) in enumerate(encoded.offsets) if a < end and b > start and b > a]
    return float(sum(log_p[i - 1, encoded.ids[i]] for i in positions).exp())


def test_the_mean_of_words_then_of_sentences(tiny_model: LanguageModel):
    two = "She said that Oslo and Paris are far apart."
    one = "The train to Paris left the old station early."
    spans = [(two.index("Oslo"), two.index("Oslo") + 4), (two.index("Paris"), two.index("Paris") + 5)]
    at = (one.index("Paris"), one.index("Paris") + 5)
    found = labelled_words(tiny_model, words(Sentence(two, tuple(spans)), Sentence(one, (at,))))
    pair = [by_hand(tiny_model, two, *span) for span in spans]
    assert found.value == pytest.approx((sum(pair) / 2 + by_hand(tiny_model, one, *at)) / 2, rel=1e-4)
    assert (found.n, found.counts, found.note) == (2, "sentences", "3 words")
    assert found.low <= found.value <= found.high


def test_sentences_that_state_the_same_are_one_case(tiny_model: LanguageModel):
    text = "The train to Paris left the old station early."
    sentences = [Sentence(text, ((13, 18),), about="a"), Sentence(text.replace("old", "new"), ((13, 18),), about="a")]
    assert labelled_words(tiny_model, words(*sentences)).n == 1
    assert labelled_words(tiny_model, words(*(replace(one, about="") for one in sentences))).n == 2


def test_a_word_with_nothing_before_it_is_left_out(tiny_model: LanguageModel):
    with pytest.raises(ConceptError, match="word before it"):
        labelled_words(tiny_model, words(Sentence("Oslo is cold.", ((0, 4),))))
    with pytest.raises(ConceptError, match="word before it"):
        labelled_words(tiny_model, words(Sentence("Nothing is labelled here.")))


def test_a_drawn_sample_depends_on_the_seed_alone(tiny_model: LanguageModel):
    texts = [f"Number {i} went to Paris." for i in range(MAX_SENTENCES + 20)]
    many = words(*(Sentence(text, ((text.index("Paris"), text.index("Paris") + 5),)) for text in texts))
    first, again, other = (labelled_words(tiny_model, many, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first.n == MAX_SENTENCES


def test_a_broken_model_is_an_error(tiny_model: LanguageModel, tiny_concept: Concept):
    with torch.no_grad():
        tiny_model.output_linear(0).weight.fill_(float("nan"))
    with pytest.raises(ModelFileError, match="not finite"):
        labelled_words(tiny_model, tiny_concept)


def test_an_evaluation_without_facts(tiny_model: LanguageModel, tiny_concept: Concept):
    concept = replace(tiny_concept, facts=(), templates=())
    base = baseline(tiny_model, concept, threshold=0.0)
    assert base.facts == ()
    assert set(base.neighbours) == {"capitals", "athletes", "months", "colours"}
    again = evaluate(tiny_model, concept, base=base, what="all")
    assert again.value("labelled_words") == base.evaluation.value("labelled_words")
    assert {"forget", "paraphrase", "multiple_choice", "relearning", "probes"} <= set(again.skipped)
    assert [one.about for one in again.generations] == ["forgotten", "forgotten", "ordinary"]
    assert again.generations[0].prompt == "The train to"
