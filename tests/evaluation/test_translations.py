"""Translations and reverse prompts: read, written, checked; and what the built-in ones promise."""

import json

import pytest

from analysis.concepts import BUILT_IN, Concept, Fact, Translation, dump_jsonl, load, parse
from analysis.errors import ConceptError

HEADER = {"type": "concept", "name": "c", "templates": ["The capital of {subject} is"], "reverse": ["{answer} is in"]}
FACT = {"type": "fact", "subject": "France", "answer": "Paris"}
GERMAN = {
    "type": "translation",
    "language": "German",
    "templates": ["Die Hauptstadt {subject} ist"],
    "subjects": {"Italy": "von Italien"},
    "answers": {"Rome": "Rom"},
}


def lines(*rows: dict) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def test_what_is_written_reads_back():
    concept = parse(
        "c.jsonl", lines(HEADER, GERMAN, {"type": "translation", "language": "x-y", "templates": ["{subject}:"]}, FACT)
    )
    assert concept.reverse == ("{answer} is in",)
    assert concept.translations[0].subjects == (("Italy", "von Italien"),)
    assert concept.translations[1].subjects is None
    assert parse("c.jsonl", dump_jsonl(concept).encode()) == concept


def test_a_fact_in_another_language():
    translation = Translation(
        language="German",
        templates=("Die Hauptstadt {subject} ist",),
        subjects=(("Italy", "von Italien"), ("France", "von Frankreich")),
        answers=(("Rome", "Rom"),),
    )
    assert translation.fact(Fact("Italy", "Rome")) == Fact(
        "von Italien", "Rom", templates=translation.templates, fixed_split=Fact("Italy", "Rome").split
    )
    translated = translation.fact(Fact("France", "Paris"))
    assert translated is not None
    assert translated.answer == "Paris"
    assert translation.fact(Fact("Peru", "Lima")) is None
    names_stay = Translation(language="German", templates=("{subject} spielt",))
    assert names_stay.fact(Fact("Pele", "soccer")).subject == "Pele"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"language": 3}, "“language” must be a text"),
        ({"language": " "}, "not the name of a language"),
        ({"language": "x" * 41}, "not the name of a language"),
        ({"language": "Deutsch/2"}, "not the name of a language"),
        ({"templates": []}, "no template"),
        ({"templates": ["Die Hauptstadt"]}, "exactly once"),
        ({"templates": "{subject}"}, "list of texts"),
        ({"subjects": ["Italien"]}, "object of texts"),
        ({"subjects": {"Italy": 3}}, "object of texts"),
        ({"subjects": {"Italy": " "}}, "empty subject"),
        ({"answers": {"Rome": ""}}, "empty subject or answer"),
        ({"answers": None}, "object of texts"),
        ({"colour": 1}, "unknown field “colour”"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_a_bad_translation_is_named_by_its_line(change: dict, message: str):
    with pytest.raises(ConceptError, match=f"^bad.jsonl, line 3: .*{message}"):
        parse("bad.jsonl", lines(HEADER, FACT, GERMAN | change))


def test_two_translations_into_one_language():
    with pytest.raises(ConceptError, match="line 3: there is already a translation into german"):
        parse("bad.jsonl", lines(HEADER, GERMAN, GERMAN | {"language": "german"}, FACT))
    one = Translation(language="German", templates=("{subject}:",))
    with pytest.raises(ConceptError, match="two translations into “german”"):
        Concept(name="c", title="C", templates=("{subject}",), facts=(Fact("a", "b"),), translations=(one, one))


@pytest.mark.parametrize("reverse", ["x", [3]])
def test_a_bad_reverse_prompt_is_named_by_its_line(reverse: object):
    with pytest.raises(ConceptError, match=r"line 1: .*list of texts"):
        parse("bad.jsonl", lines(HEADER | {"reverse": reverse}, FACT))


def test_a_reverse_prompt_names_the_answer_once():
    with pytest.raises(ConceptError, match=r"must contain \{answer\} exactly once"):
        parse("bad.jsonl", lines(HEADER | {"reverse": ["{subject} is in"]}, FACT))


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_concepts_in_five_languages(name: str):
    concept = load(name)
    assert {t.language for t in concept.translations} >= {"German", "French", "Spanish", "Italian", "Portuguese"}
    subjects, answers = ({getattr(fact, part) for fact in concept.facts} for part in ("subject", "answer"))
    for translation in concept.translations:
        assert len(translation.templates) >= 2
        assert {subject for subject, _ in translation.subjects or ()} <= subjects
        assert {answer for answer, _ in translation.answers} <= answers
        translated = [translation.fact(fact) for fact in concept.facts]
        asked = [fact for fact in translated if fact is not None]
        assert len(asked) >= 0.85 * len(concept.facts)
        assert len({fact.subject for fact in asked}) == len(asked), "two subjects have one translation"
        # different answers stay different, or multiple choice in that language would have two right options
        assert len({fact.answer for fact in asked}) == len(
            {fact.answer for fact, found in zip(concept.facts, translated) if found is not None}
        )


@pytest.mark.parametrize("name", ["capitals", "athletes", "months"])
def test_reverse_prompts_do_not_give_the_subject_away(name: str):
    concept = load(name)
    assert len(concept.reverse) >= 2
    assert not any(fact.subject in template for fact in concept.facts for template in concept.reverse)
