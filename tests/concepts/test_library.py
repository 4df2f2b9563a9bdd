"""The built-in concepts hold what is promised, and uploaded ones are found again."""

import re
from pathlib import Path

import pytest

from analysis import paths
from analysis.concepts import BUILT_IN, Concept, Fact, available, load, neutral_sentences, save
from analysis.errors import ConceptError

CONCEPTS = {name: load(name) for name in BUILT_IN}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def contains(text: str, phrase: str) -> bool:
    """Whether the words of `phrase` occur in `text` one after another."""
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


def labels(concept: Concept) -> set[str]:
    return {sentence.text[start:end].lower() for sentence in concept.sentences for start, end in sentence.spans}


@pytest.mark.parametrize(
    ("name", "facts", "templates", "sentences"),
    [("capitals", 50, 4, 60), ("athletes", 60, 2, 60), ("months", 12, 2, 60), ("colours", 20, 2, 60)],
)
def test_there_is_enough_of_everything(name: str, facts: int, templates: int, sentences: int):
    concept = CONCEPTS[name]
    assert concept.name == name
    assert len(concept.facts) >= facts
    assert len(concept.templates) >= templates
    assert sum(bool(sentence.spans) for sentence in concept.sentences) >= sentences
    assert concept.paraphrases
    assert concept.title
    assert concept.description


def test_there_is_enough_neutral_text():
    assert len(neutral_sentences()) >= 200


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_span_is_whole_words(name: str):
    for sentence in CONCEPTS[name].sentences:
        for start, end in sentence.spans:
            labelled, around = sentence.text[start:end], f" {sentence.text} "
            assert re.fullmatch(r"\w[\w' .-]*\w", labelled), (labelled, sentence.text)
            assert not around[start].isalnum(), sentence.text
            assert not around[end + 1].isalnum(), sentence.text


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_labelled_word_is_left_unlabelled(name: str):
    """A word that is labelled somewhere must be labelled wherever a sentence of its concept uses it."""
    known = labels(CONCEPTS[name]) - {"may", "march"}
    missed = []
    for sentence in CONCEPTS[name].sentences:
        rest = sentence.text
        for start, end in reversed(sentence.spans):
            rest = rest[:start] + "|" + rest[end:]
        missed += [(label, sentence.text) for label in known if contains(rest.replace("|", " | "), label)]
    assert missed == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_neutral_text_mentions_no_concept(name: str):
    """No labelled word, no answer and no subject of any concept. "May" and "march" are ordinary words too."""
    concept = CONCEPTS[name]
    phrases = labels(concept) | {fact.answer.lower() for fact in concept.facts}
    if name != "colours":  # their subjects are everyday things
        phrases |= {fact.subject.lower() for fact in concept.facts}
    hits = [(phrase, s.text) for s in neutral_sentences() for phrase in phrases if contains(s.text, phrase)]
    assert hits == []


def test_neutral_text_is_unlabelled():
    assert not any(sentence.spans for sentence in neutral_sentences())


@pytest.mark.parametrize("name", BUILT_IN)
def test_both_splits_have_facts(name: str):
    splits = [fact.split for fact in CONCEPTS[name].facts]
    assert min(splits.count("retrained"), splits.count("held_out")) >= 2
    assert splits == [
        Fact(fact.subject, fact.answer, fixed_split=fact.fixed_split).split for fact in CONCEPTS[name].facts
    ]


@pytest.mark.parametrize("name", [*BUILT_IN, "neutral"])
def test_no_sentence_appears_twice(name: str):
    sentences = neutral_sentences() if name == "neutral" else CONCEPTS[name].sentences
    texts = [sentence.text for sentence in sentences]
    assert sorted({text for text in texts if texts.count(text) > 1}) == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_templates_and_paraphrases_are_distinct(name: str):
    prompts = [*CONCEPTS[name].templates, *CONCEPTS[name].paraphrases]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_template_gives_an_answer_away(name: str):
    """A fact stated inside a template (as a worked example) must not be a fact that is measured."""
    concept = CONCEPTS[name]
    given_away = [
        (fact.subject, template)
        for template in (*concept.templates, *concept.paraphrases)
        for fact in concept.facts
        if contains(template.replace("{subject}", " | "), fact.subject)
    ]
    assert given_away == []


def test_load_by_name_or_path(tmp_path: Path):
    assert load("capitals") is load("capitals")
    path = tmp_path / "own.jsonl"
    path.write_text('{"type": "sentence", "text": "In Paris.", "spans": [[3, 8]]}\n')
    assert load(str(path)).name == "own"


def test_load_chooses_a_label(tmp_path: Path):
    path = tmp_path / "train.conll"
    path.write_text("In O\nParis B-LOC\nAnna B-PER\n")
    assert load(str(path), label="LOC").sentences[0].spans == ((3, 8),)
    with pytest.raises(ConceptError, match=r"several types of label: LOC \(1\), PER \(1\)"):
        load(str(path))
    with pytest.raises(ConceptError, match="“capitals” is not the path of one"):
        load("capitals", label="LOC")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("capital", "Did you mean “capitals”"),
        ("xyz", "There are: capitals"),
        ("../capitals", "no concept"),
        ("", "no concept"),
        ("absent.jsonl", "cannot be read"),
        ("absent.CONLL", "cannot be read"),
        ("absent_tokens.txt", "cannot be read"),
        ("~nobody-of-this-name/x.jsonl", "x.jsonl"),
        ("a" * 5000, "no concept"),
        ("a" * 5000 + ".jsonl", "cannot be read"),
        ("a\0b.jsonl", "a"),
    ],
)
def test_load_what_is_not_there(reference: str, message: str):
    with pytest.raises(ConceptError, match=message):
        load(reference)


def test_saved_concepts_are_found_again(empty_home: Path, tiny_concept: Concept):
    assert available() == list(BUILT_IN)
    path = save(tiny_concept)
    assert path.parent == paths.concepts_root() == empty_home / "concepts"
    assert available() == [*BUILT_IN, "tiny-capitals"]
    assert load("tiny-capitals") == tiny_concept
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny-capitals.jsonl"]


@pytest.mark.parametrize("name", [*BUILT_IN, "neutral"])
def test_a_built_in_name_cannot_be_taken(empty_home: Path, tiny_shapes: Concept, name: str):
    from dataclasses import replace

    with pytest.raises(ConceptError, match="built in"):
        save(replace(tiny_shapes, name=name))
    assert not paths.concepts_root().exists()
