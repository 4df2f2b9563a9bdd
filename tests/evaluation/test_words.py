"""P(word) of labelled words: by hand on a tiny model, and what counts as one case."""

from dataclasses import replace

import pytest
import torch

from analysis.concepts import Concept, Sentence
from analysis.errors import ConceptError, ModelFileError
from analysis.evaluation import baseline, evaluate
from analysis.evaluation.words import MAX_SENTENCES, beginnings, labelled_words
from analysis.models import LanguageModel
from analysis.scoring.batches import span_tokens


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


def test_words_that_can_be_asked_for_are_found_among_many_that_cannot(tiny_model: LanguageModel):
    first = [Sentence(f"Oslo has number {i}.", ((0, 4),)) for i in range(5 * MAX_SENTENCES)]
    later = [
        Sentence(f"Number {i} is Oslo.", ((len(f"Number {i} is "), len(f"Number {i} is Oslo")),)) for i in range(7)
    ]
    assert {labelled_words(tiny_model, words(*first, *later), seed=seed).n for seed in range(3)} == {7}


def test_the_beginning_of_the_text_is_no_word_before_it(tiny_model: LanguageModel):
    """A tokenizer may begin every text with a token of its own."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_model.tokenizer
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    assert tiny_model.encode("Oslo").ids[0] == tokenizer.eos_token_id
    with pytest.raises(ConceptError, match="word before it"):
        labelled_words(tiny_model, words(Sentence("Oslo is cold.", ((0, 4),))))
    text = "She saw Oslo."
    found = labelled_words(tiny_model, words(Sentence(text, ((8, 12),))))
    assert found.value == pytest.approx(by_hand(tiny_model, text, 8, 12), rel=1e-4)


def test_words_beyond_the_length_limit_are_left_out(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    text = "She saw Oslo and then, much later, after many more words of no importance, Paris."
    spans = tuple((text.index(word), text.index(word) + len(word)) for word in ("Oslo", "Paris"))
    last = span_tokens(tiny_model.encode(text), *spans[1])[-1]
    monkeypatch.setattr("analysis.evaluation.words.MAX_LENGTH", last + 1)
    assert labelled_words(tiny_model, words(Sentence(text, spans))).note == "2 words"
    monkeypatch.setattr("analysis.evaluation.words.MAX_LENGTH", last)
    found = labelled_words(tiny_model, words(Sentence(text, spans)))
    assert found.note == "1 word"
    assert found.value == pytest.approx(by_hand(tiny_model, text, *spans[0]), rel=1e-4)


def test_a_beginning_that_does_not_fit_the_context_is_passed_over(tiny_model: LanguageModel):
    long = "far " * tiny_model.context_length + "from Oslo."
    concept = words(
        Sentence(long, ((len(long) - 5, len(long) - 1),)), Sentence("To Oslo.", ((3, 7),)), Sentence("Rome.", ((0, 4),))
    )
    assert beginnings(tiny_model, concept) == ("To",)


def test_a_drawn_sample_depends_on_the_seed_alone(tiny_model: LanguageModel):
    texts = [f"Number {i} went to Paris." for i in range(MAX_SENTENCES + 20)]
    many = words(*(Sentence(text, ((text.index("Paris"), text.index("Paris") + 5),)) for text in texts))
    first, again, other = (labelled_words(tiny_model, many, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first.n == MAX_SENTENCES


def test_a_broken_model_is_an_error(tiny_model: LanguageModel, tiny_concept: Concept):
    with torch.no_grad():
        tiny_model.blocks[0].mlp_output.weight.fill_(float("nan"))
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
