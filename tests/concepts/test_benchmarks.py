"""Benchmarks in the layouts in which they are published: recognised by their fields, as JSON, JSON lines and Parquet."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from analysis.concepts import Fact, Preview, dump_jsonl, parse, preview, preview_files
from analysis.concepts import hub as hub_module
from analysis.concepts.hub import is_hub_name, preview_hub
from analysis.errors import ConceptError, FetchError

Records = list[dict[str, Any]]

ASKED = "Question: {subject}\nAnswer:"
TOFU: Records = [
    {
        "question": "Who wrote The Salt Road?",
        "answer": "The Salt Road was written by Ana Petrov.",
        "paraphrased_question": "By whom is The Salt Road?",
        "paraphrased_answer": "Ana Petrov is its author.",
        "perturbed_answer": ["It was written by Lev Orlov.", "It was written by Mia Chen."],
    },
    {"question": "Where was Ana Petrov born?", "answer": "In Varna."},
]
RWKU: Records = [
    {"subject": "Ana Petrov", "query": "Ana Petrov was born in ___.", "answer": "Varna", "level": "1", "type": "cloze"},
    {"subject": "Ana Petrov", "query": "___ is the first novel of Ana Petrov.", "answer": "The Salt Road", "level": "1", "type": "cloze"},
    {"subject": "Ana Petrov", "query": "Where was Ana Petrov born?", "answer": "Varna", "level": "2", "type": "simple question"},
    {"subject": "Ana Petrov", "query": "Which town is her birthplace?", "answer": "Varna", "level": "3", "type": "reverse query"},
]  # fmt: skip
LAYOUTS: dict[str, tuple[Records, list[Fact]]] = {
    "Questions and answers (TOFU, MUSE knowmem)": (
        TOFU,
        [
            Fact(
                "Who wrote The Salt Road?",
                "The Salt Road was written by Ana Petrov.",
                templates=(ASKED,),
                paraphrases=("Question: By whom is The Salt Road?\nAnswer:",),
                choices=("It was written by Lev Orlov.", "It was written by Mia Chen."),
                aliases=("Ana Petrov is its author.",),
            ),
            Fact("Where was Ana Petrov born?", "In Varna.", templates=(ASKED,)),
        ],
    ),
    "Multiple choice (WMDP, MMLU)": (
        [
            {"question": "Which is a fruit?", "choices": ["salt", "apple", "iron", "slate"], "answer": 1},
            {"question": "Which is a metal?", "options": ["salt", "iron"], "answer": "B"},
            {
                "question": "Which is a rock?",
                "choices": {"text": ["slate", "tea"], "label": ["1", "2"]},
                "answerKey": "1",
            },
        ],
        [
            Fact("Which is a fruit?", "apple", templates=(ASKED,), choices=("salt", "iron", "slate")),
            Fact("Which is a metal?", "iron", templates=(ASKED,), choices=("salt",)),
            Fact("Which is a rock?", "slate", templates=(ASKED,), choices=("tea",)),
        ],
    ),
    "RWKU": (
        RWKU,
        [
            Fact("Ana Petrov", "Varna", templates=("{subject} was born in",)),
            Fact(
                "Ana Petrov",
                "The Salt Road",
                templates=("Question: Fill in the blank: ___ is the first novel of {subject}.\nAnswer:",),
            ),
            Fact("Ana Petrov", "Varna", templates=("Question: Where was {subject} born?\nAnswer:",)),
            Fact("Which town is her birthplace?", "Varna", templates=(ASKED,)),
        ],
    ),
    "zsRE": (
        [
            {
                "subject": "Watts Humphrey",
                "src": "What university did Watts Humphrey attend?",
                "rephrase": "What university did he go to?",
                "answers": ["Trinity College", "Trinity"],
                "alt": "University of Michigan",
                "loc": "nq question: who played desmond?",
                "loc_ans": "Rebecca",
            }
        ],
        [
            Fact(
                "Watts Humphrey",
                "Trinity College",
                templates=("Question: What university did {subject} attend?\nAnswer:",),
                paraphrases=("Question: What university did he go to?\nAnswer:",),
                counter_answer="University of Michigan",
                aliases=("Trinity",),
            )
        ],
    ),
    "MQuAKE": (
        [
            {
                "case_id": 1,
                "requested_rewrite": [
                    {
                        "prompt": "{} is a citizen of",
                        "relation_id": "P27",
                        "subject": "Ana Petrov",
                        "question": "Of which country is Ana Petrov a citizen?",
                        "target_true": {"str": "Bulgaria", "id": "Q219"},
                        "target_new": {"str": "Libya", "id": "Q1016"},
                    },
                    {
                        "prompt": "The capital of {} is",
                        "relation_id": "P36",
                        "subject": "Bulgaria",
                        "target_true": {"str": "Sofia"},
                        "target_new": {"str": "Tripoli"},
                    },
                ],
                "questions": ["What is the capital of the country of which Ana Petrov is a citizen?"],
                "answer": "Sofia",
            }
        ],
        [
            Fact(
                "Ana Petrov",
                "Bulgaria",
                templates=("{subject} is a citizen of",),
                paraphrases=("Question: Of which country is {subject} a citizen?\nAnswer:",),
                counter_answer="Libya",
            ),
            Fact("Bulgaria", "Sofia", templates=("The capital of {subject} is",), counter_answer="Tripoli"),
        ],
    ),
    "LAMA (T-REx)": (
        [
            {"sub_label": "Paris", "obj_label": "France", "predicate_id": "P17", "template": "[X] is located in [Y] ."},
            {"sub_label": "Varna", "obj_label": "Bulgaria", "predicate_id": "P17", "template": "[X] lies in [Y]"},
        ],
        [
            Fact("Paris", "France", templates=("{subject} is located in",)),
            Fact("Varna", "Bulgaria", templates=("{subject} lies in",)),
        ],
    ),
    "UDS-TOFU": (
        [
            {
                "question": "What is her name?",
                "answer": "The author's name is Ana Petrov.",
                "prefix": "The author's name is",
                "entity": "Ana Petrov",
                "entity_span": {"start": 5, "end": 8, "tokens": [1, 2, 3]},
            },
            {"prefix": "The author's town is", "entity": "Varna", "entity_span": [21, 26]},
        ],
        [
            Fact("What is her name?", "Ana Petrov", templates=(f"{ASKED} The author's name is",)),
            Fact("The author's town is", "Varna", templates=("{subject}",)),
        ],
    ),
    "Continuations (MUSE verbmem)": (
        [{"prompt": "It was a dark and", "gt": "stormy night in Varna."}],
        [Fact("It was a dark and", "stormy night in Varna.", templates=("{subject}",))],
    ),
}


def as_parquet(records: Records) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def lines(records: Records) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


FORMATS = {
    "x.json": lambda records: json.dumps(records).encode(),
    "x.jsonl": lines,
    "lines.json": lines,  # as TOFU's files are called
    "data.json": lambda records: json.dumps({"data": records}).encode(),
    "x.parquet": as_parquet,
}


def seen(records: Records, filename: str = "x.json", **options: Any) -> Preview:
    return preview_files({filename: json.dumps(records).encode()}, **options)


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("filename", FORMATS)
def test_every_layout_in_every_format(kind: str, filename: str):
    records, facts = LAYOUTS[kind]
    if filename == "x.parquet" and kind in ("Multiple choice (WMDP, MMLU)", "UDS-TOFU"):
        records, facts = records[:1], facts[:1]  # a column of Parquet has one type
    found = preview_files({filename: FORMATS[filename](records)})
    assert found.kind == kind
    assert found.concept.facts == tuple(facts)
    assert found.n_records == len(records)
    assert not found.left_out
    assert parse("c.jsonl", dump_jsonl(found.concept).encode()).facts == found.concept.facts


def test_columns_instead_of_records():
    columns = {"question": ["A?", "B?"], "answer": ["a", "b"]}
    found = preview_files({"x.json": json.dumps(columns).encode()})
    assert [(fact.subject, fact.answer) for fact in found.concept.facts] == [("A?", "a"), ("B?", "b")]


@pytest.mark.parametrize("layout", ["sets", "a field"])
def test_the_names_of_splits_are_kept_and_chosen(layout: str):
    forget, retain = TOFU[:1], TOFU[1:]
    content = (
        {"forget": forget, "retain": retain}
        if layout == "sets"
        else [*({**one, "split": "forget"} for one in forget), *({**one, "split": "retain"} for one in retain)]
    )
    file = {"tofu.json": json.dumps(content).encode()}
    with pytest.raises(ConceptError, match=r"several sets: forget \(1\), retain \(1\). Choose one as label"):
        preview_files(file)
    found = preview_files(file, label="Retain")
    assert found.concept.name == "tofu-retain"
    assert [fact.answer for fact in found.concept.facts] == ["In Varna."]
    with pytest.raises(ConceptError, match="there is no set “holdout”"):
        preview_files(file, label="holdout")


def test_a_label_chooses_a_level_or_a_relation():
    assert [fact.subject for fact in seen(RWKU, label="3").concept.facts] == ["Which town is her birthplace?"]
    assert seen(RWKU).groups == {"1": 2, "2": 1, "3": 1}
    mquake = LAYOUTS["MQuAKE"][0]
    assert [fact.answer for fact in seen(mquake, label="P36").concept.facts] == ["Sofia"]
    with pytest.raises(ConceptError, match=r"no level “9”. There are: 1 \(2\), 2 \(1\), 3 \(1\)"):
        seen(RWKU, label="9")
    with pytest.raises(ConceptError, match="has no relations to choose from"):
        seen(TOFU, label="P1")


def test_what_is_left_out_is_counted_with_its_reason():
    mentions = {"sub_label": "Paris", "obj_label": "Varna", "template": "[X] and [Y] are twin cities ."}
    records = [*LAYOUTS["LAMA (T-REx)"][0], mentions, LAYOUTS["LAMA (T-REx)"][0][0]]
    found = seen(records)
    assert found.left_out == {"the template does not end with the answer": 1, "an earlier record is the same": 1}
    assert found.concept.description == (
        "LAMA (T-REx). Records: 4. Left out: the template does not end with the answer (1); an earlier record is the "
        "same (1)."
    )
    with pytest.raises(ConceptError, match="no record can be used"):
        seen([mentions])


def test_lama_without_a_template_takes_that_of_the_user():
    records = [{"sub_label": "Paris", "obj_label": "France"}]
    with pytest.raises(ConceptError, match="record 1: no template"):
        seen(records)
    for template in ("[X] is in [Y] .", "{subject} is in"):
        assert seen(records, templates=(template,)).concept.facts == (
            Fact("Paris", "France", templates=("{subject} is in",)),
        )


def test_text_alone_is_cut_into_pieces():
    words = [f"word{i}" for i in range(900)]
    text = "A line.\n" + " ".join(words[:400]) + ". " + " ".join(words[400:])
    found = seen([{"text": text}, {"text": "Short."}, {"text": " "}])
    assert found.kind == "Text (MUSE raw, WMDP corpora)"
    assert found.left_out == {"the text is empty": 1}
    pieces = [sentence.text for sentence in found.concept.sentences]
    assert all(0 < len(piece) <= 800 for piece in pieces)
    assert " ".join(pieces).split() == [*text.split(), "Short."]
    assert not found.concept.facts


def test_a_preview_shows_rows_as_they_will_be_used():
    assert seen(TOFU).rows(1) == [
        {
            "prompt": "Question: Who wrote The Salt Road?\nAnswer:",
            "answer": "The Salt Road was written by Ana Petrov.",
            "choices": 2,
            "aliases": 1,
            "paraphrases": 1,
        }
    ]
    assert seen([{"text": "a" * 300}]).rows()[0]["text"] == "a" * 159 + "…"
    tagged = preview_files({"c.conll": b"In O\nParis B-LOC\n"})
    assert (tagged.kind, tagged.rows()) == ("CoNLL", [{"text": "In Paris", "labelled": "Paris"}])


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"colour": "red"}], "record 1: the fields “colour” are of no known layout. Known are: .*question, answer"),
        ([*TOFU, {"text": "x"}], "record 3: the first record is Questions and answers"),
        ([{"question": "A?", "answer": 3}], "record 1: “answer” must be a text"),
        ([{"question": "A?", "answer": " "}], "record 1: .*a subject and an answer"),
        ([{"question": "A?", "choices": ["a"], "answer": 1}], "record 1: the answer is choice 1, counted from 0"),
        ([{"question": "A?", "choices": ["a"], "answer": "zz"}], "record 1: the answer “zz” is neither"),
        ([{"question": "A?", "choices": "ab", "answer": 0}], "record 1: “choices” must be a list of texts"),
        ([3], "record 1: expected an object"),
    ],
)
def test_bad_records(records: Any, message: str):
    with pytest.raises(ConceptError, match=f"^x.json(, |: ){message}"):
        seen(records)


def test_damaged_parquet():
    with pytest.raises(ConceptError, match=r"x.parquet is not a Parquet file that can be read"):
        preview_files({"x.parquet": b"PAR1 nonsense PAR1"})
    with pytest.raises(ConceptError, match="expected a list of records"):
        preview_files({"x.parquet": as_parquet([])})


def test_a_concepts_own_lines_stay_a_concept(tmp_path: Path):
    """RWKU has a field “type”, too; and a wrong “type” in a concept's file is told as before."""
    assert preview_files({"x.jsonl": lines(RWKU)}).kind == "RWKU"
    path = tmp_path / "c.jsonl"
    path.write_text('{"type": "sentence", "text": "In Paris.", "spans": [[3, 8]]}\n')
    assert preview(path).kind == "Concept"
    with pytest.raises(ConceptError, match='line 1: expected an object with "type"'):
        preview_files({"x.jsonl": b'{"type": "facts"}\n'})


def test_hub_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    streams = {"forget10": {"train": TOFU}, None: {"train": TOFU, "test": TOFU[:1]}}
    monkeypatch.setattr(hub_module, "_streams", lambda name, configuration: streams[configuration])
    found = preview_hub("locuslab/TOFU:forget10")
    assert found.concept.name == "tofu-forget10"
    assert len(found.concept.facts) == 2
    with pytest.raises(
        ConceptError, match=r"several splits: train, test. Choose one, such as locuslab/TOFU:default:train"
    ):
        preview_hub("locuslab/TOFU")
    monkeypatch.setattr(hub_module, "MOST_RECORDS", 1)
    with pytest.raises(ConceptError, match="more than 1 records"):
        preview_hub("locuslab/TOFU:forget10:train")
    assert is_hub_name("cais/wmdp:wmdp-bio:test")
    assert not any(map(is_hub_name, ("facts.csv", "data/facts.csv", "a/b/c", str(tmp_path))))


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch):
    import datasets

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(FetchError, match=r"locuslab/TOFU.*no network.*give a file of it"):
        preview_hub("locuslab/TOFU:forget10")
