"""Corpora in the published formats come out in their known numbers: tokens, sentences, names of every type."""

from collections.abc import Callable

import pytest

from analysis.concepts import from_token_lines
from analysis.concepts.conll import parse_conll
from analysis.concepts.tags import tags_of
from analysis.errors import ConceptError
from tests.concepts import corpora

FORMS: dict[str, Callable[[str, str], str]] = {
    "B-LOC": corpora.usual,
    "b-loc": lambda letter, kind: corpora.usual(letter, kind).lower(),
    "B_LOC": lambda letter, kind: f"{letter}_{kind}" if kind else letter,
    "LOC-B": lambda letter, kind: f"{kind}-{letter}" if kind else letter,
    "LOC_b": lambda letter, kind: f"{kind}_{letter.lower()}" if kind else letter,
    "B:LOC": lambda letter, kind: f"{letter}:{kind}" if kind else letter,
}


def check(text: str, sentences: list[corpora.Annotated]) -> None:
    """Every type's names are found in the sentences in which they were written, and no token is lost."""
    counts = corpora.name_counts(sentences)
    assert len(counts) > 1
    for kind, count in counts.items():
        concept = parse_conll(text, label=kind)
        assert [sentence.text for sentence in concept.sentences] == [" ".join(one.tokens) for one in sentences]
        found = [[s.text[start:end] for start, end in s.spans] for s in concept.sentences]
        assert found == [[" ".join(name) for name in corpora.names_of(one, kind)] for one in sentences]
        assert sum(map(len, found)) == count
        assert f"Sentences: {len(sentences):,}. Names labelled" in concept.description
        assert concept.description.endswith(f": {count:,}.")


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU", "BMES", "BMEWO"])
@pytest.mark.parametrize("form", FORMS)
def test_every_scheme_in_every_form(scheme: str, form: str):
    sentences = corpora.corpus(120, seed=1)
    check(corpora.conll2003(sentences, scheme=scheme, write=FORMS[form]), sentences)


def test_conll_2003_keeps_tokens_that_are_numbers():
    sentences = corpora.corpus(400, seed=2, vocabulary=(*corpora.WORDS[:8], *corpora.NUMBERS * 3))
    check(corpora.conll2003(sentences), sentences)


def test_wnut_17():
    sentences = corpora.corpus(
        400, seed=3, types=("person", "creative-work", "corporation", "group", "location", "product")
    )
    check(corpora.wnut17(sentences), sentences)


@pytest.mark.parametrize("key", ["", "NER", "name"])
def test_conll_u(key: str):
    sentences = corpora.corpus(300, seed=4)
    check(corpora.conll_u(sentences, seed=5, key=key), sentences)


@pytest.mark.parametrize("scheme", ["BMES", "BMEWO"])
def test_characters_are_joined_to_names(scheme: str):
    sentences = corpora.corpus(300, seed=6, vocabulary=corpora.CHARACTERS, types=("LOC", "PER"))
    text = corpora.wnut17(sentences, scheme=scheme).replace("\t", " ")
    for kind, count in corpora.name_counts(sentences).items():
        concept = parse_conll(text, label=kind)
        assert [sentence.text for sentence in concept.sentences] == ["".join(one.tokens) for one in sentences]
        found = [s.text[start:end] for s in concept.sentences for start, end in s.spans]
        assert found == ["".join(name) for one in sentences for name in corpora.names_of(one, kind)]
        assert len(found) == count


def test_token_lines():
    sentences = corpora.corpus(200, seed=7)
    tokens = "\n".join(" ".join(one.tokens) for one in sentences)
    labels = "\n".join(" ".join(corpora.usual(*tag) for tag in corpora.tags(one, "BIOES")) for one in sentences)
    concept = from_token_lines(tokens, labels, name="x", label="PER")
    found = [tuple(s.text[start:end].split(" ")) for s in concept.sentences for start, end in s.spans]
    assert found == [name for one in sentences for name in corpora.names_of(one, "PER")]


def test_letters_without_a_type_are_names_of_one_type():
    sentences = corpora.corpus(100, seed=8, types=("X",))
    concept = parse_conll(corpora.wnut17(sentences, write=lambda letter, _: letter))
    assert sum(len(sentence.spans) for sentence in concept.sentences) == corpora.name_counts(sentences)["X"]
    assert concept.description.endswith(f"Names labelled entity: {corpora.name_counts(sentences)['X']}.")


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("O B-LOC I-LOC", "IOB"),
        ("O B-LOC E-LOC", "BIOES"),
        ("O B-LOC M-LOC E-LOC", "BMES"),
        ("o b-loc m-loc e-loc w-per", "BMEWO"),
        ("U-LOC", "BILOU"),
        ("O place", "plain labels"),
        ("e-mail O", "plain labels"),  # one letter, but no scheme has only ends
        ("HEPATITIS-B O", "plain labels"),
        ("M-16 W-2", "plain labels"),
        ("SEM:named_entity:location N/A", "plain labels"),
    ],
)
def test_the_scheme_is_told_from_all_tags(tags: str, scheme: str):
    assert tags_of(tags.split()).scheme == scheme


def test_types_by_themselves_beside_letters():
    known = tags_of("B-LOC I-LOC place e-mail O".split())
    assert [known.read[tag] for tag in ("I-LOC", "place", "e-mail")] == [("I", "LOC"), ("", "place"), ("", "e-mail")]


def test_a_type_in_two_cases_is_one_name():
    (sentence,) = parse_conll("New B-LOC\nYork I-Loc\nCity I-loc\n", label="loc").sentences
    assert sentence.spans == ((0, 13),)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("B-LOC b-loc O", "two forms: .*“B-LOC”, but there is “b-loc” too"),
        ("B-LOC I-LOC LOC-I LOC-B O", "two forms"),
        ("B-LOC I_LOC", "two forms"),
        ("B-LOC I", "two forms: .*“I” too"),
        ("B-LOC X-LOC", "“X-LOC” is of the type of “B-LOC”, but has no letter"),
        ("B-LOC I-LOC loc O", "“loc” is of the type of"),
        ("B-LOC I-LOC LOC-X", "“LOC-X” is of the type of"),
        ("BLOC ILOC O", "“BLOC” and “ILOC” look like letters of a scheme joined to a type"),
        ("(ORG* * *) (GPE)", "bracketed spans of CoNLL-2012"),
        ("BEGIN-LOC INSIDE-LOC O", "marks begin and inside by words. Write B-, I-"),
        ("loc_start loc_end O", "marks begin and inside by words"),
        ("B-LOC|I-ORG O", "two tags in one column"),
    ],
)
def test_other_schemes_are_refused_by_name(tags: str, message: str):
    with pytest.raises(ConceptError, match=message):
        tags_of(tags.split())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1 In O\n2 Lima B-LOC\n4 now O", "line 3: the first column holds numbers only, but “4” does not count on"),
        ("1 In O\n2-3 x O\n2 Lima B-LOC\n\n2 Yes O", "line 5: .*“2” does not count on"),
        ("1\tNew\tB-LOC\tB-LOC\n2\tYork\tI-LOC\tO\n", "columns 3 and 4 tag the same types"),
        ("1\tNew\tB-LOC\tB-X\t-\n2\tYork\tI-LOC\tO\t-\n", "the last column is empty, and columns 3 and 4 hold tags"),
    ],
)
def test_columns_that_cannot_be_told(rows: str, message: str):
    with pytest.raises(ConceptError, match=f"^bad.conll.*{message}"):
        parse_conll(rows, filename="bad.conll")


def test_a_tag_column_before_empty_ones():
    (sentence,) = parse_conll("# sent_id = 1\n1\tIn\tO\t-\tann\n2\tLima\tB-LOC\t-\tann\n".replace("ann", "-")).sentences
    assert (sentence.text, sentence.spans) == ("In Lima", ((3, 7),))


@pytest.mark.parametrize(
    ("misc", "message"),
    [
        ("SpaceAfter=No", "“SpaceAfter”.*none holds tags such as NER=B-LOC"),
        ("NER=B-LOC|NE=B-PER", "“NER”, “NE”.*more than one holds tags"),
        ("Entity=(1-place-giv", "bracketed spans"),
    ],
)
def test_misc_columns_that_cannot_be_read(misc: str, message: str):
    with pytest.raises(ConceptError, match=message):
        parse_conll(f"1\tLima\t_\t_\t_\t_\t_\t_\t_\t{misc}\n")
