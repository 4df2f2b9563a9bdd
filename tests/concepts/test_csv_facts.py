"""Tables of facts: every bad row is named by its line."""

import pytest

from analysis.concepts import Fact, parse
from analysis.concepts.csv_facts import parse_facts_csv
from analysis.errors import ConceptError

TEMPLATES = ("The capital of {subject} is",)


@pytest.mark.parametrize(
    ("table", "facts"),
    [
        ("subject,answer\nFrance,Paris\n", [Fact("France", "Paris")]),
        ("answer,subject\nParis,France", [Fact("France", "Paris")]),
        (" Subject , ANSWER \n France , Paris ", [Fact("France", "Paris")]),
        ("country,capital\nFrance,Paris\nPeru,Lima", [Fact("France", "Paris"), Fact("Peru", "Lima")]),
        ("subject,answer,split\nFrance,Paris,held_out\nPeru,Lima,", [Fact("France", "Paris", fixed_split="held_out"), Fact("Peru", "Lima")]),
        ("subject,answer,template\nFrance,Paris,{subject}:\nPeru,Lima,", [Fact("France", "Paris", templates=("{subject}:",)), Fact("Peru", "Lima")]),
        ("subject,counter_answer,answer\nFrance,Lyon,Paris\nPeru, ,Lima", [Fact("France", "Paris", counter_answer="Lyon"), Fact("Peru", "Lima")]),
        ("subject,answer,template\nFrance,Paris,\nFrance,French,{subject} speaks", [Fact("France", "Paris"), Fact("France", "French", templates=("{subject} speaks",))]),
        ('subject,answer\n"Korea, South","Seoul"\n\nPeru,"Li""ma"', [Fact("Korea, South", "Seoul"), Fact("Peru", 'Li"ma')]),
    ],
)  # fmt: skip
def test_tables(table: str, facts: list[Fact]):
    assert parse_facts_csv(table, templates=TEMPLATES).facts == tuple(facts)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "",
            "line 1: expected columns subject and answer, separated by commas, semicolons, tabs or bars; found nothing",
        ),
        ("a,b,c\n1,2,3", "line 1: expected columns"),
        ("subject,answer,population\nFrance,Paris,2", "line 1: unknown column “population”"),
        ("subject,answer,answer\nFrance,Paris,Lyon", "line 1: .*twice"),
        ("subject,answer\nFrance,Paris\nPeru", "line 3: expected 2 columns"),
        ("subject,answer\nFrance,Paris\nPeru,Lima,1", "line 3: expected 2 columns"),
        ("subject,answer\nFrance,\n", "line 2: .*subject and an answer"),
        ("subject,answer,counter_answer\nFrance,Paris,Paris", "line 2: the counter answer is .*the answer itself"),
        ("subject,answer,split\nFrance,Paris,test", "line 2: split is “test”"),
        ("subject,answer,template\nFrance,Paris,none", "line 2: .*exactly once"),
        ('subject,answer\nFrance,Paris\n"Peru,Lima', "line 3"),
        ("subject,answer\nFrance,Paris\nFrance,Lyon", "subject “France” appears twice"),
        ("subject,answer\n", "concept “bad” has neither sentences nor facts"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_bad_tables(table: str, message: str):
    with pytest.raises(ConceptError, match=f"^bad.csv(: |, ){message}"):
        parse("bad.csv", table.encode(), templates=TEMPLATES)


def test_a_table_needs_a_template_from_somewhere():
    with pytest.raises(ConceptError, match=r"no template column.*\{subject\}"):
        parse("t.csv", b"subject,answer\nFrance,Paris")
    with pytest.raises(ConceptError, match="line 3: no template"):
        parse("t.csv", b"subject,answer,template\nFrance,Paris,{subject}:\nPeru,Lima,")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["subject{0}answer{0}template", "sep={0}\r\nsubject{0}answer{0}template"])
def test_separators(separator: str, header: str):
    table = f"{header.format(separator)}\r\nFrance{separator}Paris{separator}The capital, of {{subject}} is\r\n"
    table = table if separator != "," else table.replace("capital,", "capital")
    (fact,) = parse_facts_csv(table).facts
    assert (fact.subject, fact.answer, len(fact.templates)) == ("France", "Paris", 1)
    with pytest.raises(ConceptError, match=f"line {3 + header.startswith('sep')}: expected 3 columns, found 1"):
        parse_facts_csv(table + "Peru\n")


def test_two_columns_of_other_names_between_other_separators():
    table = "Land, Staat;Hauptstadt\nFrance;Paris\nPeru;Lima, the city\n"
    facts = (Fact("France", "Paris"), Fact("Peru", "Lima, the city"))
    assert parse_facts_csv(table, templates=TEMPLATES).facts == facts
    with pytest.raises(ConceptError, match="line 1: the separator may be commas or semicolons"):
        parse_facts_csv("a, b;c\nd, e;f\n", templates=TEMPLATES)


def test_rows_of_empty_cells_are_no_facts():
    assert parse_facts_csv("subject;answer\nFrance;Paris\n;\n", templates=TEMPLATES).facts == (Fact("France", "Paris"),)


def test_rows_with_another_separator_than_the_header_say_which_one_is_expected():
    with pytest.raises(ConceptError, match=r"line 2: expected 2 columns, found 1 \(columns are separated by commas\)"):
        parse("t.csv", b"subject,answer\nFrance;Paris\n", templates=TEMPLATES)
