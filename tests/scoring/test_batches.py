"""Spans to tokens, buckets and padding, on tokens that can be counted by eye."""

from dataclasses import replace

import pytest
import torch

from analysis.concepts import Concept, Sentence
from analysis.errors import ConceptError
from analysis.models import LanguageModel, TokenizedText
from analysis.scoring.batches import LabelledText, bucket, label_concepts, pad, span_tokens


def concept(*sentences: Sentence, name: str = "c") -> Concept:
    return Concept(name=name, title=name, sentences=sentences)


def groups(model: LanguageModel, text: LabelledText) -> list[list[str]]:
    """The decoded tokens of every group, sorted."""
    found: list[list[str]] = [[] for _ in text.n_tokens_G]
    for batch in text.batches:
        for g, b, p in batch.weights_GBP.nonzero().tolist():
            found[g].append(model.decode([int(batch.tokens_BP[b, p])]))
    return [sorted(tokens) for tokens in found]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(4, 9, [1]), (3, 9, [1]), (4, 10, [1, 2]), (8, 11, [1, 2]), (0, 1, [0]), (14, 20, [3])],
)
def test_span_tokens_are_those_that_overlap(start: int, end: int, expected: list[int]):
    text = TokenizedText((1, 2, 3, 4), ((0, 3), (3, 9), (9, 12), (12, 15)))
    assert span_tokens(text, start, end) == expected


def test_tokens_without_characters_belong_to_no_span():
    text = TokenizedText((0, 1, 2), ((0, 0), (0, 3), (3, 3)))
    assert span_tokens(text, 0, 3) == [1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The train to *Paris* left.", ["Paris"]),
        ("Then *Ouagadougou* was far.", ["Ouagadougou"]),
        ("Now *Zürich* and *São Paulo* are near.", ["Zürich", "São Paulo"]),
        ("Now *東京* is near.", ["東京"]),
        ("A 🙂 in *Oslo* today.", ["Oslo"]),
    ],
)
def test_labelled_tokens_spell_the_labelled_words(tiny_model: LanguageModel, mark, text: str, words: list[str]):
    # a second sentence, longer, because a single labelled token is refused
    labelled = label_concepts(
        tiny_model, [concept(mark(text), mark("The train to *Ouagadougou* left " + "again " * 20))]
    )
    (batch,) = labelled.batches
    ids = batch.tokens_BP[0][batch.weights_GBP[0, 0].bool()].tolist()
    assert "".join(tiny_model.decode(ids).split()) == "".join(words).replace(" ", "")
    assert labelled.n_spans_lost == labelled.n_cut == 0


def test_a_word_of_several_tokens_is_labelled_whole(tiny_model: LanguageModel, mark):
    labelled = label_concepts(tiny_model, [concept(mark("Then *Ouagadougou* was far."))])
    assert labelled.n_tokens_G[0] > 3


def test_every_counted_token_is_in_exactly_one_group(tiny_model: LanguageModel, tiny_concept: Concept, tiny_shapes):
    labelled = label_concepts(tiny_model, [tiny_concept, tiny_shapes], tokens_per_batch=50)
    assert labelled.concepts == ("tiny-capitals", "tiny-shapes")
    assert all(batch.weights_GBP.sum(0).max() == 1 for batch in labelled.batches)
    counts = sum(batch.weights_GBP.sum((1, 2)) for batch in labelled.batches)
    assert counts.tolist() == list(labelled.n_tokens_G)
    sentences = [*tiny_concept.sentences, *tiny_shapes.sentences]
    after_first_word = [s.text[s.text.index(" ") :] for s in sentences]
    assert sum(labelled.n_tokens_G) == sum(len(tiny_model.encode(text)) for text in after_first_word)


def test_first_words_are_left_out_unless_told(tiny_model: LanguageModel, mark):
    sentences = [mark("*Ouagadougou* is far from *Paris* and *Oslo* today."), mark("*Oslo* was cold.")]
    without = label_concepts(tiny_model, [concept(*sentences)])
    assert groups(tiny_model, without)[0] == [" Oslo", " Paris"]
    assert without.skips_first
    assert without.n_spans_lost == 2
    whole = label_concepts(tiny_model, [concept(*sentences)], skip_first=False)
    assert not whole.skips_first
    assert whole.n_spans_lost == 0
    first_words = sum(len(tiny_model.encode(word)) for word in ("Ouagadougou", "Oslo"))
    assert whole.n_tokens_G == (without.n_tokens_G[0] + first_words, without.n_tokens_G[1])


def test_long_sentences_are_cut_and_counted(tiny_model: LanguageModel, mark):
    long = mark("The train to *Paris* and *Paris* left " + "and left again " * 20 + "for *Oslo* at last.")
    length = len(tiny_model.encode(long.text))
    labelled = label_concepts(tiny_model, [concept(long)], max_length=12)
    assert labelled.batches[0].tokens_BP.shape[1] == 12
    assert (labelled.n_cut, labelled.n_spans_lost) == (length - 12, 1)
    assert groups(tiny_model, labelled)[0] == [" Paris", " Paris"]


def test_nothing_is_longer_than_the_models_context(tiny_model: LanguageModel, mark):
    long = mark("The train to *Paris* and *Paris* left " + "and left again " * 60)
    labelled = label_concepts(tiny_model, [concept(long)])
    assert labelled.batches[0].tokens_BP.shape[1] == tiny_model.context_length == 128
    assert labelled.n_cut == len(tiny_model.encode(long.text)) - 128


def test_facts_are_stated_where_no_sentence_is_labelled(tiny_model: LanguageModel, tiny_concept: Concept):
    labelled = label_concepts(tiny_model, [replace(tiny_concept, sentences=())])
    assert groups(tiny_model, labelled)[0].count(" Paris") == 2  # one a template


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["The kettle was full."], "labels no words"),
        (["*Paris* is far."], "leaving out first words"),
        (["The *train left early.*"], "nothing to compare"),
        (["The train to *Paris* left early.", "Nobody noticed."], "single labelled token"),
        (["*Rome* is far from *Paris* today."], "single labelled token"),
    ],
)
def test_what_cannot_be_measured(tiny_model: LanguageModel, mark, texts: list[str], message: str):
    with pytest.raises(ConceptError, match=f"“c”.*{message}"):
        label_concepts(tiny_model, [concept(*(mark(text) for text in texts))])


def test_a_single_word_of_several_tokens_can_be_measured(tiny_model: LanguageModel, mark):
    assert label_concepts(tiny_model, [concept(mark("Then *Ouagadougou* was far."))]).n_tokens_G[0] > 1


def test_a_concept_with_nothing_in_it():
    with pytest.raises(ConceptError, match="neither sentences nor facts"):
        concept()


def test_the_message_names_the_concept_that_cannot_be_measured(tiny_model: LanguageModel, tiny_concept: Concept, mark):
    with pytest.raises(ConceptError, match="“unlabelled” labels no words"):
        label_concepts(tiny_model, [tiny_concept, concept(mark("The kettle was full."), name="unlabelled")])


def test_a_sentence_of_two_concepts_is_run_once_and_counts_for_both(tiny_model: LanguageModel, mark):
    text = "The train to *Paris* and *Oslo* left."
    cities, trains = concept(mark(text), name="a"), concept(mark("The *train* to Paris and Oslo *left*."), name="b")
    labelled = label_concepts(tiny_model, [cities, trains])
    (batch,) = labelled.batches
    assert batch.tokens_BP.shape[0] == labelled.n_sentences == 1
    found = groups(tiny_model, labelled)
    assert found[0] == [" Oslo", " Paris"]
    assert "".join(sorted(found[2])) == "".join(sorted(groups(tiny_model, label_concepts(tiny_model, [trains]))[0]))
    assert sorted(found[0] + found[1]) == sorted(found[2] + found[3])
    for alone, g in ((cities, 0), (trains, 2)):
        assert groups(tiny_model, label_concepts(tiny_model, [alone])) == found[g : g + 2]


def test_a_sentence_said_twice_counts_twice(tiny_model: LanguageModel, mark):
    sentence, other = mark("The train to *Paris* and *Oslo* left."), mark("Nobody in *Athens* had seen such rain.")
    once = label_concepts(tiny_model, [concept(sentence, other)])
    twice = label_concepts(tiny_model, [concept(sentence, other, sentence), concept(other, sentence, name="d")])
    assert twice.n_sentences == 3
    assert groups(tiny_model, twice)[0] == sorted([*groups(tiny_model, once)[0], " Paris", " Oslo"])
    assert groups(tiny_model, twice)[2] == groups(tiny_model, once)[0]
    assert sorted(i for batch in twice.batches for i in batch.sentences) == [0, 1, 2]


def test_rows_say_which_sentence_they_are(tiny_model: LanguageModel, tiny_concept: Concept, tiny_shapes: Concept):
    both = replace(tiny_shapes, sentences=(*tiny_concept.sentences[3:], *tiny_shapes.sentences))
    labelled = label_concepts(tiny_model, [tiny_concept, both], tokens_per_batch=40)
    assert labelled.sentences == (*tiny_concept.sentences, *tiny_shapes.sentences)
    for batch in labelled.batches:
        for tokens, s in zip(batch.tokens_BP.tolist(), batch.sentences):
            text = labelled.sentences[s].text
            assert tiny_model.decode(tokens[: len(tiny_model.encode(text))]) == text


def test_words_cut_by_the_models_context_are_an_error(tiny_model: LanguageModel, mark):
    text = "The train left " + "and left again " * 60 + "for *Paris* and *Rome*."
    with pytest.raises(ConceptError, match="cutting sentences to 128 tokens"):
        label_concepts(tiny_model, [concept(mark(text))])


def test_a_label_behind_the_cut_is_an_error_that_says_so(tiny_model: LanguageModel, mark):
    with pytest.raises(ConceptError, match="cutting sentences to 4 tokens"):
        label_concepts(tiny_model, [concept(mark("The train left early for *Paris*."))], max_length=4)


@pytest.mark.parametrize("budget", [1, 7, 64, 10**6])
def test_buckets_cover_every_text_once_within_the_budget(budget: int):
    lengths = torch.randint(1, 40, (100,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = list(bucket(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(100))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget for batch in batches)
    ends = [lengths[i] for batch in batches for i in batch]
    assert ends == sorted(ends)
    if budget == 10**6:
        assert len(batches) == 1


def test_no_texts_make_no_batches():
    assert list(bucket([], 10)) == []


def test_padding_is_on_the_right(tiny_model: LanguageModel):
    filler = tiny_model.tokenizer.pad_token_id
    padded = pad([(5, 6), (7, 8, 9, 10), (11,)], tiny_model)
    assert padded.tolist() == [[5, 6, filler, filler], [7, 8, 9, 10], [11, filler, filler, filler]]
    assert padded.dtype == torch.int64


def test_padding_does_not_change_real_tokens(either_model: LanguageModel):
    rows = [
        either_model.encode(text).ids for text in ("The train left early.", "Nobody told us that it had been moved.")
    ]
    with torch.inference_mode():
        together = either_model.logits(pad(rows, either_model))
        for i, row in enumerate(rows):
            torch.testing.assert_close(together[i, : len(row)], either_model.logits(torch.tensor([row]))[0])
