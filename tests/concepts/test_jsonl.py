"""JSON lines: every bad row is named by its line, and what is dumped reads back unchanged."""

import json

import pytest

from analysis.concepts import BUILT_IN, Concept, Fact, Sentence, dump_jsonl, load, parse
from analysis.concepts.jsonl import parse_jsonl
from analysis.errors import ConceptError

HEADER = '{"type": "concept", "name": "c", "title": "C", "templates": ["The capital of {subject} is"]}'
FACT = '{"type": "fact", "subject": "France", "answer": "Paris"}'
SENTENCE = '{"type": "sentence", "text": "In Paris.", "spans": [[3, 8]]}'
TEMPLATES = ("The capital of {subject} is",)


def test_a_whole_file():
    concept = parse_jsonl("\n".join([HEADER, "", FACT, SENTENCE, ""]))
    assert concept == Concept(
        name="c",
        title="C",
        templates=TEMPLATES,
        facts=(Fact("France", "Paris"),),
        sentences=(Sentence("In Paris.", ((3, 8),)),),
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected an object"),
        ("3", "expected an object"),
        ("null", "expected an object"),
        ("{}", "expected an object"),
        ('{"type": "city"}', "expected an object"),
        ('{"type": ["fact"]}', "expected an object"),
        ('{"type": {"fact": 1}}', "expected an object"),
        ('{"type": "fact", "subject": "Peru"}', "“answer” must be a text"),
        ('{"type": "fact", "subject": 3, "answer": "Lima"}', "“subject” must be a text"),
        ('{"type": "fact", "subject": "Peru", "answer": " "}', "subject and an answer"),
        ('{"type": "fact", "subject": "Peru", "answer": "Lima", "capital": true}', "unknown field “capital”"),
        ('{"type": "fact", "subject": "Peru", "answer": "Lima", "split": "test"}', "split is “test”"),
        ('{"type": "fact", "subject": "Peru", "answer": "Lima", "split": []}', "split"),
        ('{"type": "fact", "subject": "Peru", "answer": "Lima", "templates": "{subject}"}', "list of texts"),
        ('{"type": "fact", "subject": "Peru", "answer": "Lima", "templates": [1]}', "list of texts"),
        ('{"type": "fact", "subject": "Peru", "answer": "Lima", "templates": ["x"]}', "exactly once"),
        (
            '{"type": "fact", "subject": "Peru", "answer": "Lima", "counter_answer": 3}',
            "“counter_answer” must be a text",
        ),
        ('{"type": "fact", "subject": "Peru", "answer": "Lima", "counter_answer": ""}', "counter answer is empty"),
        (r'{"type": "fact", "subject": "\ud800", "answer": "Lima"}', "UTF-8|surrogate|character"),
        ('{"type": "sentence"}', "“text” must be a text"),
        ('{"type": "sentence", "text": ""}', "empty"),
        ('{"type": "sentence", "text": "Lima", "spans": 3}', "“spans”"),
        ('{"type": "sentence", "text": "Lima", "spans": [3]}', "“spans”"),
        ('{"type": "sentence", "text": "Lima", "spans": [[0]]}', "“spans”"),
        ('{"type": "sentence", "text": "Lima", "spans": [[0, 1.5]]}', "“spans”"),
        ('{"type": "sentence", "text": "Lima", "spans": [[false, true]]}', "“spans”"),
        ('{"type": "sentence", "text": "Lima", "spans": [[0, 9]]}', "outside"),
        ('{"type": "sentence", "text": "Lima", "spans": [[0, 3], [2, 4]]}', "overlaps"),
        (HEADER, "must be the first"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_a_bad_row_is_named_by_its_line(row: str, message: str):
    content = "\n".join([HEADER, "", FACT, row, SENTENCE])
    with pytest.raises(ConceptError, match=f"^bad.jsonl, line 4: .*({message})"):
        parse("bad.jsonl", content.encode())


@pytest.mark.parametrize(
    ("field", "message"),
    [('"templates": "x"', "list of texts"), ('"paraphrases": [3]', "list of texts"), ('"colour": 1', "unknown field")],
)
def test_a_bad_header_is_named_by_its_line(field: str, message: str):
    content = f'\n{{"type": "concept", {field}}}\n{FACT}'
    with pytest.raises(ConceptError, match=f"^bad.jsonl, line 2: .*{message}"):
        parse("bad.jsonl", content.encode())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "neither sentences nor facts"),
        ([HEADER], "neither sentences nor facts"),
        ([FACT], "no template"),
        ([HEADER, FACT, FACT], "appears twice"),
        (['{"type": "concept", "name": "a b"}', SENTENCE], "not a valid concept name"),
        (['{"type": "concept", "name": 3}', SENTENCE], "“name” must be a text"),
        (['{"type": "concept", "title": []}', SENTENCE], "“title” must be a text"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(rows: list[str], message: str):
    with pytest.raises(ConceptError, match=f"^bad.jsonl.*{message}"):
        parse("bad.jsonl", "\n".join(rows).encode())


@pytest.mark.parametrize("name", BUILT_IN)
def test_dump_reads_back_unchanged(name: str):
    concept = load(name)
    assert parse_jsonl(dump_jsonl(concept)) == concept


def test_dump_keeps_everything_a_fact_and_a_sentence_hold():
    facts = (
        Fact(
            "São Tomé\u2028",
            'say "x"\n',
            templates=("{subject}\n",),
            paraphrases=("a {subject}",),
            fixed_split="held_out",
            counter_answer="Lima",
        ),
        Fact("東京", "🙂"),
    )
    concept = Concept(
        name="Ω-1_x", title="T\u0085", description="d", templates=TEMPLATES, facts=facts, sentences=(Sentence("a b", ((0, 1), (2, 3))), Sentence("c"))
    )  # fmt: skip
    assert parse("x.jsonl", dump_jsonl(concept).encode()) == concept


def test_deeply_nested_json_is_an_error_and_no_crash():
    row = '{"type": "fact", "subject": ' + "[" * 100_000 + "]" * 100_000 + ', "answer": "Lima"}'
    with pytest.raises(ConceptError, match="line 2"):
        parse("bad.jsonl", f"{HEADER}\n{row}".encode())


def test_dump_is_one_json_object_a_line():
    rows = [json.loads(line) for line in dump_jsonl(load("months")).splitlines()]
    assert [row["type"] for row in rows[:2]] == ["concept", "translation"]
    assert {row["type"] for row in rows} == {"concept", "translation", "fact", "sentence"}
