"""Tagged tokens: every tagging scheme gives the same spans, every bad row is named by its line."""

import random
import re

import pytest

from analysis.concepts import Sentence, from_token_lines
from analysis.concepts.conll import looks_like_conll, parse_conll
from analysis.errors import ConceptError

# The names are [New York], [Paris] [Oslo] (which follow each other) and [Lima].
TOKENS = "New York beats Paris Oslo and Lima".split()
TEXT = "New York beats Paris Oslo and Lima"
SPANS = ((0, 8), (15, 20), (21, 25), (30, 34))
SCHEMES = {
    "IOB2": "B I O B B O B",
    "IOB1": "I I O I B O I",
    "BIOES": "B E O S S O S",
    "BILOU": "B L O U U O U",
    "BIOES, inside only at the end": "B I O S S O I",
}


def rows(tags: str, *, separator: str = " ", columns: str = "") -> str:
    full = [tag if tag == "O" else f"{tag}-LOC" for tag in tags.split()]
    return "\n".join(f"{token}{separator}{columns}{tag}" for token, tag in zip(TOKENS, full)) + "\n"


def marked(sentence: Sentence) -> list[str]:
    return [sentence.text[start:end] for start, end in sentence.spans]


@pytest.mark.parametrize("tags", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("separator", [" ", "\t", "   "])
@pytest.mark.parametrize("columns", ["", "NNP B-NP "])
def test_schemes_and_columns(tags: str, separator: str, columns: str):
    content = rows(tags, separator=separator, columns=columns.replace(" ", separator))
    (sentence,) = parse_conll(content).sentences
    assert (sentence.text, sentence.spans) == (TEXT, SPANS)


@pytest.mark.parametrize("nothing", ["O", "N/A", "-", "_"])
def test_plain_labels(nothing: str):
    tags = "place place _ place _ _ place".replace("_", nothing).split()
    content = "\n".join(f"{token}\t{tag}" for token, tag in zip(TOKENS, tags))
    (sentence,) = parse_conll(content.replace("place", "SEM:named_entity:location")).sentences
    assert marked(sentence) == ["New York", "Paris", "Lima"]


def test_a_change_of_type_ends_a_name_and_other_types_are_left_out():
    content = "Anna I-PER\nParis I-LOC\nLima I-LOC\nCorp I-ORG\n"
    assert marked(parse_conll(content, label="loc").sentences[0]) == ["Paris Lima"]
    assert marked(parse_conll(content, label="PER").sentences[0]) == ["Anna"]


def test_sentences_without_the_label_are_kept():
    concept = parse_conll("-DOCSTART- -X- O\n\nIn x O\nLima x B-LOC\n\n\nYes x O\n-DOCSTART- -X- O\nNo x O\n \nOh x O")
    assert concept.sentences == (Sentence("In Lima", ((3, 7),)), Sentence("Yes"), Sentence("No"), Sentence("Oh"))
    assert concept.description == "Sentences: 4. Names labelled LOC: 1."


def test_any_tagging_of_random_sentences_is_rebuilt():
    """Random names are written as BIO and must be found again, character by character."""
    draw = random.Random(0)
    lines, expected = [], []
    for _ in range(60):
        words = ["".join(draw.choices("abcéж#-_", k=draw.randint(1, 4))) for _ in range(draw.randint(1, 9))]
        tags, names, at = [], [], 0
        for word in words:
            carries_on = bool(tags) and tags[-1] != "O" and draw.random() < 0.4
            tags.append("I-X" if carries_on else draw.choice(["O", "B-X"]))
            if carries_on:
                names[-1] = (names[-1][0], at + len(word))
            elif tags[-1] == "B-X":
                names.append((at, at + len(word)))
            at += len(word) + 1
        lines += [f"{word} {tag}" for word, tag in zip(words, tags)] + [""]
        expected.append(Sentence(" ".join(words), tuple(names)))
    assert parse_conll("\n".join(lines)).sentences == tuple(expected)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_comments_and_number_signs(newline: str):
    lines = ["# source: a page", "#", "# B-LOC is a tag", "# O", "#1 O", "Lima B-LOC", "", "#\tid 3"]
    (sentence,) = parse_conll(newline.join(lines)).sentences
    assert (sentence.text, marked(sentence)) == ("# #1 Lima", ["Lima"])
    (sentence,) = parse_conll("# place\nNo. N/A\n# N/A\n2 N/A\nLima place\n").sentences
    assert sentence.text == "# No. # 2 Lima"  # a plain label of the file makes the first line a row


def test_columns_between_tabs_may_hold_blanks_or_nothing():
    (sentence,) = parse_conll("New York\t\tB-LOC\nis\tV\tO\na\u00a0b\t\tO\n").sentences
    assert (sentence.text, marked(sentence)) == ("New York is a\u00a0b", ["New York"])


def test_a_column_that_counts_the_tokens_is_not_the_token():
    content = "1\tIn\tO\n2\tLima\tB-LOC\n\n1\tYes\tO\n"
    assert [sentence.text for sentence in parse_conll(content).sentences] == ["In Lima", "Yes"]
    numbers = "1 CD O\n3 CD O\nLima NNP B-LOC\n"
    assert parse_conll(numbers).sentences[0].text == "1 3 Lima"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("In O\nLima\nis O", "line 2: expected 2 columns as in the first row, found 1"),
        ("In O\n\nis V O\nLima B-LOC", "line 3: expected 2 columns as in the first row, found 3"),
        ("In\nLima", "line 1: expected a token and, in the last column, its tag"),
        ("In\tO\nLima\t", "line 2: the token or its tag .* is missing"),
        ("In\tO\n\tB-LOC", "line 2: the token or its tag .* is missing"),
        ("1\tIn\tO\n2\t\tB-LOC", "line 2: the token or its tag .* is missing"),
        ("In O\n#x", "line 2: expected 2 columns"),
    ],
)
def test_bad_rows(content: str, message: str):
    with pytest.raises(ConceptError, match=f"^bad.conll, {message}"):
        parse_conll(content, filename="bad.conll")


@pytest.mark.parametrize("content", ["", "\n\n", "In O\nLima O\n", "# only a comment\n"])
def test_nothing_is_labelled(content: str):
    with pytest.raises(ConceptError, match=r"^c.conll: no token has a label"):
        parse_conll(content, filename="c.conll")


def test_several_types_have_to_be_chosen_from():
    content = "A B-PER\nB B-LOC\nC I-LOC\nD B-LOC\nE B-MISC\nF O\n"
    with pytest.raises(
        ConceptError, match=re.escape("LOC (2), MISC (1), PER (1). Choose one as label, such as “LOC”.")
    ):
        parse_conll(content)
    with pytest.raises(ConceptError, match=re.escape("there is no type “GPE”. There are: LOC (2), MISC (1), PER (1).")):
        parse_conll(content, label="GPE")


def test_token_lines():
    concept = from_token_lines(
        "In New York .\r\n\n Yes\tsir \n\n", "N/A place place N/A\r\n\nN/A N/A\n", name="x", label="PLACE"
    )
    assert concept.sentences == (Sentence("In New York .", ((3, 11),)), Sentence("Yes sir"))
    assert concept.name == "x"


@pytest.mark.parametrize(
    ("tokens", "labels", "message"),
    [
        ("a b\nc d", "O X\nO", "line 2: 2 tokens but 1 labels"),
        ("a b\n\nc", "O X\nO\nO", "line 2: 0 tokens but 1 labels"),
        ("a b\nc", "O X", r": 2 lines of tokens but 1 lines of labels"),
        ("a b", "O O", "no token has a label"),
        ("a b", "X Y", r"several types of label: X \(1\), Y \(1\)"),
    ],
)
def test_bad_token_lines(tokens: str, labels: str, message: str):
    with pytest.raises(ConceptError, match=message):
        from_token_lines(tokens, labels, name="x")


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("In O\nLima B-LOC\n", True),
        ("# a\n\nIn\tN/A\nLima\tplace\n", True),
        ("In Lima.\nIt was hot.\n", False),
        ("O\nO\n", False),
        ("", False),
        ('{"type": "sentence"}', False),
    ],
)
def test_what_looks_like_tagged_tokens(text: str, looks: bool):
    assert looks_like_conll(text) is looks


def test_the_rows_of_contractions_and_empty_nodes_are_left_out():
    rows = ("1-2\tdel\t_\tO", "1\tde\t_\tO", "2\tel\t_\tO", "2.1\t_\t_\tO", "3\tOslo\t_\tB-LOC")
    concept = parse_conll("\n".join(rows) + "\n", name="places")
    assert [one.text for one in concept.sentences] == ["de el Oslo"]


def test_lines_may_end_with_a_carriage_return_alone():
    concept = parse_conll("Anna B-PER\rslept O\r\rOslo B-LOC\rslept O\r", name="names", label="PER")
    assert [one.text for one in concept.sentences] == ["Anna slept", "Oslo slept"]
