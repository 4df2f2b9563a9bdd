"""Token classification: tags from spans, entities from tags, and scores against a count by hand and a plain softmax."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from analysis.concepts import Concept, Sentence
from analysis.errors import ConceptError
from analysis.models import LanguageModel
from analysis.scoring import tagging
from tests.raw_model import raw

O, B, I = range(3)


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ([O, B, I, O], [(1, 3)]),
        ([B, B, I], [(0, 1), (1, 3)]),
        ([O, I, I], [(1, 3)]),
        ([B, -100, I], [(0, 1), (2, 3)]),
        ([O, O], []),
        ([], []),
    ],
)
def test_entities_of_a_row_of_tags(tags: Sequence[int], entities: list[tuple[int, int]]):
    assert list(tagging.find_entities(tags)) == entities


def test_every_token_of_a_span_is_tagged_and_nothing_else(tiny_model: LanguageModel, tiny_concept: Concept):
    sentences = tiny_concept.labelled_sentences()
    rows = tagging.tag_rows(tiny_model, sentences)
    assert len(rows) == len(sentences)
    for row, sentence in zip(rows, sentences):
        offsets = tiny_model.encode(sentence.text).offsets
        entities = list(tagging.find_entities(row.tags))
        assert len(entities) == len(sentence.spans)
        for (first, stop), (start, end) in zip(entities, sentence.spans):
            words = sentence.text[offsets[first][0] : offsets[stop - 1][1]]
            assert words.strip() == sentence.text[start:end]


def test_both_parts_of_the_sentences_are_whole_and_apart(tiny_concept: Concept):
    train, held_out = tagging.split_sentences(tiny_concept)
    assert {*train} | {*held_out} == {*tiny_concept.labelled_sentences()}
    assert not {sentence.text for sentence in train} & {sentence.text for sentence in held_out}


def test_one_labelled_sentence_cannot_be_split():
    concept = Concept(name="one", title="One", sentences=(Sentence("In Paris it rains.", ((3, 8),)),))
    with pytest.raises(ConceptError, match="too few words"):
        tagging.split_sentences(concept)


def test_scores_against_a_plain_softmax(tiny_model: LanguageModel, tiny_concept: Concept):
    """One sentence at a time, with no padding and no batches."""
    sentences = tiny_concept.labelled_sentences()
    head = tagging.TagHead(tiny_model, seed=3)
    with torch.no_grad():
        head.weight.mul_(40)  # far from uniform, so that some guesses are right
    found = tagging.score(tiny_model, head, tagging.prepare(tiny_model, sentences))
    p, losses, right, guessed = [], [], 0, 0
    for row in tagging.tag_rows(tiny_model, sentences):
        with torch.no_grad():
            probabilities = head(tiny_model.residual(torch.tensor([row.ids])))[0].double().softmax(-1).numpy()
        counted = [i for i, tag in enumerate(row.tags) if tag >= 0]
        losses += [-np.log(probabilities[i, row.tags[i]]) for i in counted]
        guesses = [int(probabilities[i].argmax()) if i in counted else -100 for i in range(len(row.tags))]
        truth = {*tagging.find_entities(row.tags)}
        right += len(truth & {*tagging.find_entities(guesses)})
        guessed += len(list(tagging.find_entities(guesses)))
        p += [np.prod([probabilities[i, row.tags[i]] for i in range(*entity)]) for entity in truth]
    assert sorted(found.p_E) == pytest.approx(sorted(p), rel=1e-4)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.recall == right / len(p)
    assert found.precision == right / guessed
    assert found.f1 == pytest.approx(2 * right / (guessed + len(p)))


def test_training_the_head_finds_the_words(tiny_model: LanguageModel, tiny_concept: Concept):
    rows = tagging.tag_rows(tiny_model, tiny_concept.labelled_sentences())
    head = tagging.TagHead(tiny_model, seed=0)
    probe = tagging.prepare(tiny_model, tiny_concept.labelled_sentences())
    before = tagging.score(tiny_model, head, probe)
    tokens, tags = tagging.pad_tags(rows, tiny_model)
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss = tagging.tag_loss(tiny_model, head, tokens, tags) / int((tags >= 0).sum())
        loss.backward()
        optimiser.step()
    raw(tiny_model).zero_grad(set_to_none=True)
    after = tagging.score(tiny_model, head, probe)
    assert after.loss < 0.5 * before.loss
    assert after.f1 > 0.8
    assert before.f1 < 0.5


def test_the_head_depends_on_its_seed_alone(tiny_model: LanguageModel):
    same, other = tagging.TagHead(tiny_model, seed=1), tagging.TagHead(tiny_model, seed=2)
    torch.manual_seed(99)
    assert torch.equal(tagging.TagHead(tiny_model, seed=1).weight, same.weight)
    assert not torch.equal(other.weight, same.weight)
