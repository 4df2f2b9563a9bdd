"""Parses tokens with tags into labelled sentences: CoNLL columns, or a file of tokens with a file of labels.

CoNLL has one token per line, with its tag in the last column (Tjong Kim Sang & De Meulder, 2003). Token files have one
sentence per line, and a second file has one label per token, the data format of Lo, Cohen & Barez (arXiv 2401.01814).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from analysis.concepts.concept import Concept, Sentence
from analysis.concepts.reading import choose, counted, place
from analysis.errors import ConceptError

__all__ = ["from_token_lines", "looks_like_conll", "parse_conll"]

_NO_LABEL = {"O", "N/A", "-", "_"}
_PREFIXED = re.compile(r"([BILUES])-(\S.*)")
_OPENING, _CLOSING = set("BUS"), set("LUES")
_DOCUMENT = "-DOCSTART-"
_TAB = re.compile("\t")
_BLANKS = re.compile(r"[ \t]+")  # str.split would also split at no-break spaces, which occur inside tokens
_BLANK = " \t\r"
_ENDS = _BLANK + "\n"

Tagged = tuple[str, str]
"""A token and its tag."""


@dataclass(frozen=True, kw_only=True)
class _Entity:
    """Tokens [start, end) of a sentence that carry one label."""

    label: str
    start: int
    end: int


def parse_conll(text: str, *, name: str = "uploaded", label: str | None = None, filename: str = "the file") -> Concept:
    """Parse one token per line, in columns separated by tabs or blanks, with the tag last; a blank line ends a sentence.

    Tags: O, N/A, - and _ mean no label; B-, I-, E-, S-, L-, U- before a type (IOB1, IOB2, BIOES, BILOU); any other tag is
    a type by itself, and its neighbours with the same tag belong to one name. Sentences are rebuilt with one space
    between tokens. `-DOCSTART-` lines and comments (see docs/concepts.md) are skipped. If the first column counts the
    tokens of every sentence (1, 2, 3, …), the token is in the second.

    Args:
        text: the file's content.
        name: name of the concept.
        label: the type whose tokens are labelled, without regard to case; may be left out if there is only one.
        filename: what errors call the file.

    Raises:
        ConceptError: a row is wrong (with its line number); there are several types and none is chosen, or the chosen
            one does not occur (lists the types with their counts).
    """
    sentences = _sentences(text, filename)
    return _concept(sentences, name=name, label=label, filename=filename)


def from_token_lines(
    tokens_text: str,
    labels_text: str,
    *,
    name: str,
    label: str | None = None,
    filename: str = "the files",
) -> Concept:
    """Parse two texts with one sentence per line: its tokens, and one label per token. Labels are read like CoNLL tags.

    Args:
        tokens_text: tokens separated by blanks.
        labels_text: labels separated by blanks.
        name: name of the concept.
        label: the type whose tokens are labelled, without regard to case; may be left out if there is only one.
        filename: what errors call the files.

    Raises:
        ConceptError: a line has unequal numbers of labels and tokens (with its number), or as in `parse_conll`.
    """
    token_lines, label_lines = tokens_text.rstrip(_ENDS).split("\n"), labels_text.rstrip(_ENDS).split("\n")
    sentences: list[list[Tagged]] = []
    for number, (token_line, label_line) in enumerate(zip(token_lines, label_lines), start=1):
        tokens, labels = _columns(token_line, _BLANKS), _columns(label_line, _BLANKS)
        if len(tokens) != len(labels):
            raise ConceptError(f"{filename}, line {number}: {len(tokens)} tokens but {len(labels)} labels")
        if tokens:
            sentences.append(list(zip(tokens, labels)))
    if len(token_lines) != len(label_lines):
        raise ConceptError(f"{filename}: {len(token_lines)} lines of tokens but {len(label_lines)} lines of labels")
    return _concept(sentences, name=name, label=label, filename=filename)


def looks_like_conll(text: str) -> bool:
    """Whether at least half of the first 100 rows end in a tag."""
    columns = [_columns(line, _BLANKS) for line in _surely_rows(text[:100_000].split("\n"))[:100]]
    tagged = sum(len(row) > 1 and _is_tag(row[-1]) for row in columns)
    return 0 < len(columns) <= 2 * tagged


def _concept(sentences: Sequence[list[Tagged]], *, name: str, label: str | None, filename: str) -> Concept:
    found = [(tagged, list(_entities(tagged))) for tagged in sentences]
    counts = Counter(entity.label for _, entities in found for entity in entities)
    with place(filename):
        if not counts:
            raise ConceptError("no token has a label; tag the words of the concept, such as “B-LOC”")
        if label is None and len(counts) > 1:
            first = counts.most_common(1)[0][0]
            raise ConceptError(
                f"there are several types of label: {counted(counts)}. Choose one as label, such as “{first}”."
            )
        chosen = set(counts) if label is None else choose(counts, label, kind="type")
        return Concept(
            name=name,
            title=name,
            description=f"Sentences: {len(found):,}. Names labelled {min(chosen)}: {sum(counts[one] for one in chosen):,}.",
            sentences=tuple(
                _sentence([token for token, _ in tagged], [entity for entity in entities if entity.label in chosen])
                for tagged, entities in found
            ),
        )


def _sentence(tokens: list[str], entities: Iterable[_Entity]) -> Sentence:
    starts = [0]
    for token in tokens:
        starts.append(starts[-1] + len(token) + 1)
    return Sentence(" ".join(tokens), tuple((starts[entity.start], starts[entity.end] - 1) for entity in entities))


def _entities(tagged: Sequence[Tagged]) -> Iterator[_Entity]:
    """The labelled stretches of a sentence, in order."""
    label, start, closed = "", 0, True
    for i, (_, tag) in enumerate((*tagged, ("", "O"))):
        prefix, kind = _split(tag)
        if label and (kind != label or closed or prefix in _OPENING):
            yield _Entity(label=label, start=start, end=i)
            label = ""
        if kind and not label:
            label, start = kind, i
        closed = prefix in _CLOSING


def _split(tag: str) -> tuple[str, str]:
    """Prefix and type of a tag; the type is empty where there is no label."""
    if tag in _NO_LABEL:
        return "", ""
    prefixed = _PREFIXED.fullmatch(tag)
    return (prefixed[1], prefixed[2]) if prefixed else ("", tag)


def _sentences(text: str, filename: str) -> list[list[Tagged]]:
    """The sentences of a file in CoNLL columns. Its first row sets the separator and the number of columns."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    plain = _surely_rows(lines)
    separator = _TAB if plain and "\t" in plain[0] else _BLANKS
    n_columns = len(_columns(plain[0], separator)) if plain else 0
    tags = {_columns(line, separator)[-1] for line in plain}
    sentences: list[list[tuple[int, list[str]]]] = [[]]
    for number, line in enumerate(lines, start=1):
        columns = _columns(line, separator)
        if not line.strip(_BLANK) or line.startswith(_DOCUMENT):
            sentences.append([])
        elif not _is_comment(line, columns, n_columns, tags) and not _RANGE.fullmatch(columns[0]):
            sentences[-1].append((number, columns))
    found = [rows for rows in sentences if rows]
    counting = n_columns > 2 and all(row[0] == str(i) for rows in found for i, (_, row) in enumerate(rows, start=1))
    tagged: list[list[Tagged]] = []
    for rows in found:
        tagged.append([])
        for number, row in rows:
            with place(filename, f"line {number}"):
                tagged[-1].append(_tagged(row, n_columns, token=1 if counting else 0))
    return tagged


_RANGE = re.compile(r"\d+-\d+|\d+\.\d+")
"""CoNLL-U ids of contractions (whose words follow as rows) and of empty nodes (which are not in the text): skipped."""


def _surely_rows(lines: Sequence[str]) -> list[str]:
    """The lines that are certainly rows: not blank, no document marker, and not starting with #."""
    return [line for line in lines if line.strip(_BLANK) and not line.startswith(("#", _DOCUMENT))]


def _tagged(row: Sequence[str], n_columns: int, *, token: int) -> Tagged:
    """The token (column number `token`) and the tag (last column) of a row."""
    if n_columns < 2:
        raise ConceptError("expected a token and, in the last column, its tag")
    if len(row) != n_columns:
        raise ConceptError(f"expected {n_columns} columns as in the first row, found {len(row)}")
    if not row[token] or not row[-1]:
        raise ConceptError("the token or its tag (last column) is missing")
    return row[token], row[-1]


def _columns(line: str, separator: re.Pattern[str]) -> list[str]:
    """The columns of a line; between tabs a column may be empty or hold blanks."""
    if separator is _BLANKS:
        return [column for column in _BLANKS.split(line.strip(_BLANK)) if column]
    return [column.strip(_BLANK) for column in separator.split(line)]


def _is_comment(line: str, columns: Sequence[str], n_columns: int, tags: set[str]) -> bool:
    """Whether a line starts with # and a blank and is no row (a row has `n_columns` columns and ends in a tag)."""
    if not re.match(r"#([ \t]|$)", line):
        return False
    return len(columns) != n_columns or not (_is_tag(columns[-1]) or columns[-1] in tags)


def _is_tag(column: str) -> bool:
    return column in _NO_LABEL or _PREFIXED.fullmatch(column) is not None
