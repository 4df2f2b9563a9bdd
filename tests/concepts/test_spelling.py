"""Texts of facts are spelled alike in every format, and no prompt gets a double space before its answer."""

import json
import unicodedata

import pytest

from analysis.concepts import Concept, Fact, Sentence, Translation, dump_jsonl, parse
from analysis.concepts.spelling import clean, clean_template, gap, joined
from analysis.errors import ConceptError

TEMPLATE = "The capital of {subject} is"
DECOMPOSED, COMPOSED = "Se\u0301oul", "S\u00e9oul"


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u3000", "\n"])
def test_blanks_at_the_ends_go(blank: str):
    assert clean(f"{blank}New York{blank}{blank}") == "New York"
    assert clean(DECOMPOSED) == COMPOSED


def test_a_template_keeps_its_line_breaks():
    assert clean_template(f" Q: {DECOMPOSED} {{subject}}?\n") == f"Q: {COMPOSED} {{subject}}?\n"


def jsonl(*rows: dict) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


FACT = {"type": "fact", "subject": " Korea\u00a0", "answer": f" {DECOMPOSED} ", "counter_answer": " Busan"}
FILES = {
    "c.jsonl": jsonl({"type": "concept", "name": "c", "templates": [f" {TEMPLATE}  "]}, FACT),
    "c.csv": f"subject,answer,counter_answer,template\n Korea\u00a0, {DECOMPOSED} , Busan, {TEMPLATE}  \n".encode(),
    "c.json": json.dumps(
        [
            {
                "requested_rewrite": {
                    "prompt": " The capital of {} is  ",
                    "relation_id": "P36",
                    "subject": " Korea\u00a0",
                    "target_true": {"str": f" {DECOMPOSED} "},
                    "target_new": {"str": " Busan"},
                }
            }
        ]
    ).encode(),
}


@pytest.mark.parametrize("filename", FILES)
def test_every_format_is_spelled_alike(filename: str):
    concept = parse(filename, FILES[filename])
    (fact,) = concept.facts
    assert (fact.subject, fact.answer, fact.counter_answer) == ("Korea", COMPOSED, "Busan")
    assert concept.templates_of(fact) == (TEMPLATE,)
    assert [text for text, _ in concept.statements(fact)] == [f"The capital of Korea is {COMPOSED}"]


def test_paraphrases_and_translations():
    german = Translation(
        language="German", templates=(" Die Hauptstadt {subject} ist ",), subjects=((" Korea", " von Korea "),), answers=((f"{DECOMPOSED} ", " Seoul"),)
    )  # fmt: skip
    concept = Concept(
        name="c",
        title="C",
        templates=(f"{TEMPLATE} ",),
        paraphrases=(" Korea, {subject}, has the capital ",),
        reverse=(" {answer} is the capital of ",),
        facts=(Fact(" Korea", f"{DECOMPOSED}"),),
        translations=(german,),
    )
    translated = german.fact(concept.facts[0])
    assert translated is not None
    assert (translated.subject, translated.answer) == ("von Korea", "Seoul")
    assert translated.templates == ("Die Hauptstadt {subject} ist",)
    assert concept.paraphrases == ("Korea, {subject}, has the capital",)
    assert concept.reverse == ("{answer} is the capital of",)
    assert parse("c.jsonl", dump_jsonl(concept).encode()) == concept


@pytest.mark.parametrize(
    ("left", "right", "between"),
    [
        ("is", "Paris", " "),
        ("A:\n", "Paris", ""),
        ("首都は", "パリ", ""),
        ("首都は", "Paris", " "),
        ("is", "巴黎", " "),
        ("수도는", "파리", " "),  # Korean puts spaces between words
        ("คือ", "ปารีส", ""),
    ],
)
def test_a_space_stands_where_the_script_has_one(left: str, right: str, between: str):
    assert gap(left, right) == between
    assert joined(f"{left}  " if between else left, right) == left + between + right


def test_invisible_marks_at_the_ends_are_blanks():
    assert Fact("\u200bFrance ", " \ufeff Paris\u200b") == Fact("France", "Paris")
    with pytest.raises(ConceptError, match="subject and an answer"):
        Fact("France", "\u200b")


def test_spans_of_a_sentence_follow_composed_characters():
    malaga = unicodedata.normalize("NFD", "Málaga")
    assert Sentence(f"We saw {malaga} and Paris.", ((7, 14), (19, 24))) == Sentence(
        "We saw Málaga and Paris.", ((7, 13), (18, 23))
    )
    with pytest.raises(ConceptError, match="at 9, inside a character"):
        Sentence(f"We saw {malaga}.", ((7, 9),))
    with pytest.raises(ConceptError, match="outside"):
        Sentence(f"We saw {malaga}.", ((7, 99),))
    (sentence,) = parse("c.conll", f"In O\n{malaga} B-LOC\n! O".encode()).sentences
    assert sentence == Sentence("In Málaga !", ((3, 9),))
