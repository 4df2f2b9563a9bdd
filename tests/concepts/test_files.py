"""Files of every format: told by their ending, read from disk or from an upload, and named."""

from pathlib import Path

import pytest

from analysis.concepts import Fact, Sentence, parse, parse_files, read
from analysis.errors import ConceptError

HEADER = '{"type": "concept", "name": "c", "title": "C", "templates": ["The capital of {subject} is"]}'
FACT = '{"type": "fact", "subject": "France", "answer": "Paris"}'
SENTENCE = '{"type": "sentence", "text": "In Paris.", "spans": [[3, 8]]}'
TEMPLATES = ("The capital of {subject} is",)


def test_without_a_header_the_file_gives_the_name():
    concept = parse("My Cities (2).jsonl", SENTENCE.encode())
    assert (concept.name, concept.title) == ("my-cities-2", "my-cities-2")


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_byte_order_mark_and_windows_lines(prefix: bytes, newline: str):
    assert parse("c.jsonl", prefix + newline.join([HEADER, FACT, SENTENCE]).encode()).facts[0].answer == "Paris"
    table = newline.join(["subject,answer", "France,Paris", ""])
    assert parse("c.csv", prefix + table.encode(), templates=TEMPLATES).facts == (Fact("France", "Paris"),)


@pytest.mark.parametrize("name", ["facts", "facts.xlsx", "", "facts.md"])
def test_other_kinds_of_file(name: str):
    with pytest.raises(ConceptError, match=r"only \.jsonl.*\.csv"):
        parse(name, FACT.encode())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("notes.txt", "Paris is a city.\nOslo is one too.", "one token per line with its tag"),
        ("notes.txt", "", "one token per line with its tag"),
        ("x_tokens.txt", "Paris is a city.", "x_tokens.txt needs x_labels.txt"),
        ("x_labels.txt", "B-LOC O O O\nB-LOC O O O", "x_labels.txt needs x_tokens.txt"),
    ],
)
def test_other_texts(name: str, text: str, message: str):
    with pytest.raises(ConceptError, match=message):
        parse(name, text.encode())


@pytest.mark.parametrize("name", ["c.conll", "c.bio", "c.iob", "c.IOB2", "c.txt"])
def test_endings_of_tagged_tokens(name: str):
    concept = parse(name, b"In O\nParis B-LOC\n")
    assert (concept.name, concept.sentences) == ("c", (Sentence("In Paris", ((3, 8),)),))


def test_a_label_is_part_of_the_name_unless_a_name_is_given():
    content = b"In O\nParis B-LOC\nAnna B-PER\n"
    assert parse("Train.conll", content, label="PER").name == "train-per"
    assert parse("Train.conll", content, label="PER", name="My people!").name == "my-people"
    assert parse("c.jsonl", f"{HEADER}\n{FACT}".encode(), name="other").name == "other"


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv"])
def test_a_label_where_there_is_nothing_to_choose(name: str):
    with pytest.raises(ConceptError, match=f"{name}: a label chooses from CoNLL and CounterFact files only"):
        parse(name, FACT.encode(), label="LOC", templates=TEMPLATES)


def test_tokens_and_labels_in_two_files(tmp_path: Path):
    (tmp_path / "x_tokens.txt").write_text("In Paris\n")
    with pytest.raises(ConceptError, match=r"x_tokens.txt needs x_labels.txt"):
        read(tmp_path / "x_tokens.txt")
    (tmp_path / "x_labels.txt").write_text("O LOC\n")
    concept = read(tmp_path / "x_tokens.txt")
    assert (concept.name, concept.sentences) == ("x", (Sentence("In Paris", ((3, 8),)),))
    pair = {"x_tokens.txt": b"In Paris\n", "x_labels.txt": b"O LOC\n"}
    assert parse_files(pair) == parse_files(dict(reversed(pair.items()))) == concept
    assert parse_files(pair, label="loc", name="y").name == "y"
    with pytest.raises(ConceptError, match=r"^x_tokens.txt and x_labels.txt, line 1: 1 tokens but 2 labels"):
        parse_files(pair | {"x_tokens.txt": b"Paris"})
    with pytest.raises(ConceptError, match=r"x_labels.txt is not UTF-8"):
        parse_files(pair | {"x_labels.txt": b"\xff"})


@pytest.mark.parametrize(
    "names",
    [(), ("a.jsonl", "b.jsonl"), ("a_tokens.txt", "b_labels.txt"), ("a_tokens.txt", "a_labels.txt", "c.csv")],
)
def test_files_that_do_not_belong_together(names: tuple[str, ...]):
    with pytest.raises(ConceptError, match=r"X_tokens.txt and X_labels.txt"):
        parse_files(dict.fromkeys(names, b""))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["c.tsv", "c.tab", "c.txt", "c.csv"])
def test_tables_that_excel_writes(encoding: str, name: str):
    table = "Subject\tAnswer\r\nZürich\tSchweiz\r\n"
    assert parse(name, table.encode(encoding), templates=TEMPLATES).facts == (Fact("Zürich", "Schweiz"),)


def test_other_encodings_are_named_with_the_line():
    content = "subject;answer\r\nFrance;Paris\r\nZürich;Schweiz\r\n".encode("cp1252")
    with pytest.raises(ConceptError, match="not UTF-8 text: line 3 reads “Zürich;Schweiz” if the file is Windows-1252"):
        parse("c.csv", content)
    with pytest.raises(ConceptError, match="looks like UTF-16 without a mark"):
        parse("c.csv", "subject,answer\nFrance,Paris".encode("utf-16-le"))
    with pytest.raises(ConceptError, match="is marked as UTF-16, but is not"):
        parse("c.csv", b"\xff\xfea")


def test_read_from_disk(tmp_path: Path):
    path = tmp_path / "c.jsonl"
    path.write_text(f"{HEADER}\n{FACT}\n")
    assert read(path).facts == (Fact("France", "Paris"),)
    with pytest.raises(ConceptError, match="cannot be read"):
        read(tmp_path / "absent.jsonl")
    with pytest.raises(ConceptError, match="cannot be read"):
        read(tmp_path)


def test_a_file_that_is_too_large(tmp_path: Path):
    for name in ("c.jsonl", "c.conll", "c.json", "x_labels.txt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(51 * 2**20)
    (tmp_path / "x_tokens.txt").write_text("In Paris\n")
    for name in ("c.jsonl", "c.conll", "c.json", "x_tokens.txt"):
        with pytest.raises(ConceptError, match=r"larger than 50 MiB"):
            read(tmp_path / name)


def test_a_table_of_tokens_with_tags_is_told_from_one_of_facts():
    assert [one.text for one in parse("t.tsv", b"Peru\tB-LOC\n1-2\tO\n").sentences] == ["Peru 1-2"]
    facts = parse("t.tsv", b"subject\tanswer\nA vitamin\tB-12\n", templates=("{subject}:",)).facts
    assert facts == (Fact("A vitamin", "B-12"),)
