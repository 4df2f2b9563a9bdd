"""Sentences, facts and concepts: what is valid, and the split that never moves."""

import pytest

from analysis.concepts import HELD_OUT_SHARE, Concept, Fact, Sentence
from analysis.errors import ConceptError

TEMPLATE = "The capital of {subject} is"
SPLITS = {
    ("France", "Paris"): "held_out",
    ("Japan", "Tokyo"): "retrained",
    ("Italy", "Rome"): "held_out",
    ("Peru", "Lima"): "retrained",
}


@pytest.mark.parametrize("spans", [(), ((0, 3),), ((0, 3), (3, 5)), ((4, 9),)])
def test_valid_spans(spans: tuple[tuple[int, int], ...]):
    assert Sentence("Paris est", spans).spans == spans


@pytest.mark.parametrize(
    ("text", "spans", "message"),
    [
        ("", (), "empty"),
        (" \n", (), "empty"),
        ("Paris", ((0, 6),), r"\[0, 6\] lies outside its text of 5"),
        ("Paris", ((-1, 2),), "outside"),
        ("Paris", ((2, 2),), "outside"),
        ("Paris", ((3, 2),), "outside"),
        ("Paris", ((0, 3), (2, 4)), "overlaps"),
        ("Paris", ((3, 4), (0, 1)), "out of order"),
    ],
)
def test_bad_sentences(text: str, spans: tuple[tuple[int, int], ...], message: str):
    with pytest.raises(ConceptError, match=message):
        Sentence(text, spans)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subject": " "}, "subject and an answer"),
        ({"answer": ""}, "subject and an answer"),
        ({"fixed_split": "test"}, "“test”.*“retrained” or “held_out”"),
        ({"templates": ("The capital is",)}, "exactly once"),
        ({"templates": ("{subject} and {subject}",)}, "exactly once"),
        ({"paraphrases": ("{subject} or {subject}",)}, "at most once"),
        ({"choices": ("Rome", " Paris")}, "the answer itself"),
        ({"aliases": ("",)}, "empty"),
        ({"counter_answer": " "}, "counter answer is empty"),
        ({"counter_answer": "Paris "}, "counter answer .* the answer itself"),
    ],
)
def test_bad_facts(arguments: dict, message: str):
    with pytest.raises(ConceptError, match=message):
        Fact(**({"subject": "France", "answer": "Paris"} | arguments))


def test_the_split_depends_on_the_fact_alone():
    """These splits are part of every published run: they must never change."""
    splits = {
        (subject, answer): Fact(subject, answer).split
        for subject, answer in (("France", "Paris"), ("Japan", "Tokyo"), ("Italy", "Rome"), ("Peru", "Lima"))
    }
    assert splits == SPLITS
    assert Fact("France", "Paris", templates=(TEMPLATE,)).split == splits["France", "Paris"]


def test_a_counter_answer_leaves_the_split():
    assert Fact("France", "Paris", counter_answer="Rome").split == SPLITS["France", "Paris"]


def test_a_subject_may_have_several_facts_that_are_asked_differently():
    facts = (Fact("France", "Paris"), Fact("France", "French", templates=("{subject} speaks",)), Fact("Peru", "Lima"))
    concept = Concept(name="c", title="C", templates=(TEMPLATE,), facts=facts)
    assert concept.fact_names() == ("France · The capital of {subject} is", "France · {subject} speaks", "Peru")
    partly = Fact("France", "Lyon", templates=("{subject}:", TEMPLATE))
    with pytest.raises(ConceptError, match=r"“France” appears twice with the template “The capital of \{subject\} is”"):
        Concept(name="c", title="C", templates=(TEMPLATE,), facts=(*facts, partly))


def test_the_split_holds_out_about_a_third():
    held_out = sum(Fact(f"country {i}", f"city {i}").split == "held_out" for i in range(3000))
    assert held_out / 3000 == pytest.approx(HELD_OUT_SHARE, abs=0.03)


@pytest.mark.parametrize("split", ["retrained", "held_out"])
def test_a_fact_may_name_its_split(split: str):
    assert all(Fact(f"country {i}", "city", fixed_split=split).split == split for i in range(20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "not a valid concept name"),
        ({"name": "../etc"}, "not a valid concept name"),
        ({"name": "two words"}, "not a valid concept name"),
        ({"templates": ("The capital is",)}, "exactly once"),
        ({"paraphrases": ("{subject}{subject}",)}, "exactly once"),
        ({"templates": ()}, "“France” has no template"),
        ({"facts": (Fact("France", "Paris"), Fact("France", "Lyon"))}, "“France” appears twice"),
        ({"facts": ()}, "neither sentences nor facts"),
    ],
)
def test_bad_concepts(arguments: dict, message: str):
    valid = {"name": "c", "title": "C", "templates": (TEMPLATE,), "facts": (Fact("France", "Paris"),)}
    assert Concept(**valid).facts
    with pytest.raises(ConceptError, match=message):
        Concept(**(valid | arguments))


def test_a_facts_own_templates_replace_the_concepts():
    own = Fact("Peru", "Lima", templates=("{subject}:",), paraphrases=("{subject} =",))
    concept = Concept(
        name="c", title="C", templates=(TEMPLATE,), paraphrases=("Of {subject}:",), facts=(Fact("France", "Paris"), own)
    )
    first, second = concept.facts
    assert [text for text, _ in concept.statements(first)] == ["The capital of France is Paris"]
    assert [text for text, _ in concept.statements(first, paraphrased=True)] == ["Of France: Paris"]
    assert [text for text, _ in concept.statements(second)] == ["Peru: Lima"]
    assert [text for text, _ in concept.statements(second, paraphrased=True)] == ["Peru = Lima"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("The capital of {subject} is", "The capital of France is Paris"),
        ("The capital of {subject} is  ", "The capital of France is Paris"),
        ("{subject}\n", "France\nParis"),
    ],
)
def test_the_answer_follows_after_one_separator(template: str, text: str):
    concept = Concept(name="c", title="C", templates=(template,), facts=(Fact("France", "Paris"),))
    ((statement, start),) = concept.statements(concept.facts[0])
    assert statement == text
    assert statement[start:] == "Paris"


def test_facts_become_labelled_sentences_only_where_there_are_none():
    fact, plain, labelled = Fact("France", "Paris"), Sentence("No word here."), Sentence("Paris here.", ((0, 5),))
    facts_only = Concept(name="c", title="C", templates=(TEMPLATE,), facts=(fact,), sentences=(plain,))
    stated = Sentence("The capital of France is Paris", ((25, 30),), about="France: Paris")
    assert facts_only.labelled_sentences() == (plain, stated)
    both = Concept(name="c", title="C", templates=(TEMPLATE,), facts=(fact,), sentences=(plain, labelled))
    assert both.labelled_sentences() == (plain, labelled)
