"""CounterFact records: each becomes a fact, every bad one is named by its number."""

import json
from typing import Any

import pytest

from analysis.concepts import Concept, Fact, dump_jsonl, parse
from analysis.concepts.counterfact import parse_counterfact
from analysis.errors import ConceptError


def record(subject: str = "Ada Lund", relation: str = "P103", **changes: Any) -> dict[str, Any]:
    rewrite = {
        "prompt": "The mother tongue of {} is",
        "relation_id": relation,
        "subject": subject,
        "target_true": {"str": "Danish", "id": "Q1"},
        "target_new": {"str": "Welsh", "id": "Q2"},
    }
    return {"case_id": 7, "requested_rewrite": rewrite | changes}


def concept(*records: Any, label: str | None = None) -> Concept:
    return parse_counterfact(json.dumps(records), label=label, filename="cf.json")


def test_a_record_becomes_a_fact():
    (fact,) = concept(record()).facts
    assert fact == Fact("Ada Lund", "Danish", templates=("The mother tongue of {subject} is",), counter_answer="Welsh")


def test_the_fact_is_asked_as_the_record_asks_it():
    made = concept(record(prompt="{}'s tongue:", target_true={"str": " Danish "}))
    assert list(made.statements(made.facts[0])) == [("Ada Lund's tongue: Danish", 19)]


def test_paraphrases_are_templates_where_the_subject_stands_once():
    prompts = [
        "It rained. Ada Lund grew up with",
        "Ada Lund, as Ada Lund herself says, speaks",
        "She speaks",
        "Ada Lunds speak",
        "(Ada Lund)",
        "Ada Lund {subject}",
    ]
    (fact,) = concept(record() | {"paraphrase_prompts": prompts, "neighborhood_prompts": ["Per Holm speaks"]}).facts
    assert fact.paraphrases == ("It rained. {subject} grew up with", "({subject})")


def test_a_subject_with_special_characters():
    (fact,) = concept(record("A+ (B.)") | {"paraphrase_prompts": ["Of A+ (B.) one says", "Of AA (Bx) one says"]}).facts
    assert fact.paraphrases == ("Of {subject} one says",)


def test_relations():
    records = [record("A", "P1"), record("B", "P1"), record("A", "P22", prompt="{} works in")]
    assert [fact.subject for fact in concept(*records).facts] == ["A", "B", "A"]
    assert concept(*records).description == "CounterFact, 2 relations. Records: 3."
    assert [fact.subject for fact in concept(*records, label="p1").facts] == ["A", "B"]
    assert concept(*records, label="P1").description == "CounterFact, P1. Records: 2."
    with pytest.raises(ConceptError, match=r"^cf.json: there is no relation “P2”. There are: P1 \(2\), P22 \(1\)\.$"):
        concept(*records, label="P2")


def test_a_prompt_that_is_asked_again_is_left_out_and_counted():
    made = concept(record(), record(target_new={"str": "Irish"}), record("Per"))
    assert [(fact.subject, fact.counter_answer) for fact in made.facts] == [("Ada Lund", "Welsh"), ("Per", "Welsh")]
    assert made.description == "CounterFact, P103. Records: 3. Left out, because an earlier one asks the same: 1."


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (3, "expected an object"),
        ({}, "“requested_rewrite” must be an object"),
        ({"requested_rewrite": [record()]}, "“requested_rewrite” must be an object"),
        (record(prompt="The mother tongue is"), "must contain {} exactly once"),
        (record(prompt="{} and {}"), "must contain {} exactly once"),
        (record(prompt="{} {subject}"), "exactly once"),
        (record(prompt=None), "“prompt” must be a text"),
        (record(" "), "subject and an answer"),
        (record(subject=3), "“subject” must be a text"),
        (record(target_true="Danish"), "“target_true” must be an object"),
        (record(target_true={}), "“str” must be a text"),
        (record(target_new=None), "“target_new” must be an object"),
        (record(target_new={"str": "Danish"}), "counter answer"),
        (record(relation=None), "“relation_id” must be a text"),
        (record() | {"paraphrase_prompts": "x"}, "“paraphrase_prompts” must be a list"),
        (record("\ud800"), "Unicode"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_a_bad_record_is_named_by_its_number(bad: Any, message: str):
    with pytest.raises(ConceptError, match=f"^cf.json, record 2: .*{message}"):
        concept(record("First"), bad, record("Last"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ('{"type": "fact"}\n{"type": "fact"}', "holds a concept in JSON lines. Give it the ending .jsonl"),
        ("{}", "expected a list"),
        ("[]", "expected a list"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_other_json(text: str, message: str):
    with pytest.raises(ConceptError, match=f"^cf.json(: | ){message}"):
        parse("cf.json", text.encode())


def test_what_is_kept_reads_back():
    made = concept(record(), record("Per", "P19", prompt="{} was born in") | {"paraphrase_prompts": ["Per is from"]})
    assert parse("cf.jsonl", dump_jsonl(made).encode()) == made
