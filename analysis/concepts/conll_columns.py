"""Finds tokens and tags in CoNLL columns: separator, comments, a column of token ids, CoNLL-U's MISC, and the tag's column.

What a file's columns mean is decided once for the whole file, from all of its rows. CoNLL-U: ten columns between tabs, the
first of which counts the tokens (https://universaldependencies.org/format.html).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.concepts.reading import place
from analysis.concepts.tags import is_tag, types_before
from analysis.errors import ConceptError

__all__ = ["BLANKS", "Tagged", "columns_of", "looks_like_conll", "sentences_of"]

Tagged = tuple[str, str]
"""A token and its tag."""

_DOCUMENT = "-DOCSTART-"
_TAB = re.compile("\t")
BLANKS = re.compile(r"[ \t]+")  # str.split would also split at no-break spaces, which occur inside tokens
_BLANK = " \t\r"
_ID = re.compile(r"(\d+)(?:-(\d+)|\.(\d+))?")
_CONLL_U_COLUMNS = 10
_NO_TAG = {"_", "-", ""}
_ENTITY_KEYS = {"ner", "ne", "name", "entity", "namedentity", "named_entity"}
"""Keys of CoNLL-U's MISC column under which corpora keep a token's tag, whatever the tag looks like."""


@dataclass(frozen=True)
class _Row:
    line: int
    columns: list[str]


def sentences_of(text: str, filename: str) -> list[list[Tagged]]:
    """The sentences of a file in CoNLL columns, without comments and without rows that are no token of the text.

    Raises:
        ConceptError: a row is wrong (with its line number), or several columns could hold the tags.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    plain = _surely_rows(lines)
    separator = _TAB if plain and "\t" in plain[0] else BLANKS
    n_columns = len(columns_of(plain[0], separator)) if plain else 0
    counting = n_columns > 2 and _counts(lines, separator, filename)
    tags = {columns_of(line, separator)[-1] for line in plain}
    sentences: list[list[_Row]] = [[]]
    for number, line in enumerate(lines, start=1):
        columns = columns_of(line, separator)
        if not line.strip(_BLANK) or _is_document(line):
            sentences.append([])
        elif counting and (line.startswith("#") or not columns[0].isdigit()):
            continue  # a comment, a contraction whose words follow as rows, or an empty node, which is not in the text
        elif counting or not _is_comment(line, columns, n_columns, tags):
            sentences[-1].append(_Row(number, columns))
    found = [rows for rows in sentences if rows]
    _check(found, n_columns, filename)
    with place(filename):
        if counting and separator is _TAB and n_columns == _CONLL_U_COLUMNS:
            found = _with_misc_read(found)
        column = _tag_column(found, n_columns, counting=counting)
    tagged: list[list[Tagged]] = []
    for rows in found:
        tagged.append([])
        for row in rows:
            token, tag = row.columns[1 if counting else 0], row.columns[column]
            if not token or not tag:
                raise ConceptError(f"{filename}, line {row.line}: the token or its tag (last column) is missing")
            tagged[-1].append((token, tag))
    return tagged


def looks_like_conll(text: str) -> bool:
    """Whether at least half of the first 100 rows end in a tag."""
    columns = [columns_of(line, BLANKS) for line in _surely_rows(text[:100_000].split("\n"))[:100]]
    tagged = sum(len(row) > 1 and is_tag(row[-1]) for row in columns)
    return 0 < len(columns) <= 2 * tagged


def columns_of(line: str, separator: re.Pattern[str]) -> list[str]:
    """The columns of a line; between tabs a column may be empty or hold blanks."""
    if separator is BLANKS:
        return [column for column in BLANKS.split(line.strip(_BLANK)) if column]
    return [column.strip(_BLANK) for column in separator.split(line)]


def _surely_rows(lines: Sequence[str]) -> list[str]:
    """The lines that are certainly rows: not blank, no document marker, and not starting with #."""
    return [line for line in lines if line.strip(_BLANK) and not line.startswith("#") and not _is_document(line)]


def _is_document(line: str) -> bool:
    return line[: len(_DOCUMENT)].upper() == _DOCUMENT


def _is_comment(line: str, columns: Sequence[str], n_columns: int, tags: set[str]) -> bool:
    """Whether a line starts with # and a blank and is no row (a row has `n_columns` columns and ends in a tag)."""
    if not re.match(r"#([ \t]|$)", line):
        return False
    return len(columns) != n_columns or not (is_tag(columns[-1]) or columns[-1] in tags)


def _counts(lines: Sequence[str], separator: re.Pattern[str], filename: str) -> bool:
    """Whether the first column counts the tokens of every sentence, as CoNLL-U's ids do.

    Ids are 1, 2, 3, …; i-j stands before the tokens of a contraction, i.j after token i for an empty node. Tokens that are
    numbers (“2-1”, “3.25”) do not count on like this.

    Raises:
        ConceptError: every row begins with an id, but they do not count (with the line of the first that does not).
    """
    wrong: tuple[int, str] | None = None
    after = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip(_BLANK) or _is_document(line):
            after = 0
        elif not line.startswith("#"):
            first = columns_of(line, separator)[0]
            match = _ID.fullmatch(first)
            if match is None:
                return False
            start = int(match[1])
            end, empty = (None if one is None else int(one) for one in match.groups()[1:])
            if end is None and empty is None:
                fits = start == after + 1
                after = start
            else:
                fits = start == after if end is None else start == after + 1 and (end or 0) >= (start or 0)
            wrong = wrong or (None if fits else (number, first))
    if wrong is not None:
        raise ConceptError(
            f"{filename}, line {wrong[0]}: the first column holds numbers only, but “{wrong[1]}” does not count on from "
            "the row before. Number the tokens of each sentence 1, 2, 3, …, or leave that column out"
        )
    return after > 0 or any(_surely_rows(lines))


def _check(sentences: Sequence[Sequence[_Row]], n_columns: int, filename: str) -> None:
    for rows in sentences:
        for row in rows:
            with place(filename, f"line {row.line}"):
                if n_columns < 2:
                    raise ConceptError("expected a token and, in the last column, its tag")
                if len(row.columns) != n_columns:
                    raise ConceptError(f"expected {n_columns} columns as in the first row, found {len(row.columns)}")


def _tag_column(sentences: Sequence[Sequence[_Row]], n_columns: int, *, counting: bool) -> int:
    """The column of the tags: the last; where that is empty throughout, the only other one that holds tags.

    Raises:
        ConceptError: another column tags names of the same types, or several could hold the tags.
    """
    values = list(zip(*(row.columns for rows in sentences for row in rows)))
    if not values:
        return -1
    others = {i: types_before(values[i]) for i in range(2 if counting else 1, n_columns - 1)}
    if counting and set(values[-1]) <= _NO_TAG:
        tagging = [i for i, types in others.items() if types and all(is_tag(value) for value in values[i])]
        if len(tagging) > 1:
            raise ConceptError(
                f"the last column is empty, and columns {_listed(tagging)} hold tags. Leave one of them, as the last column"
            )
        return tagging[0] if tagging else -1
    types = types_before(values[-1])
    alike = [i for i, found in others.items() if found & types and values[i] != values[-1]]
    if alike:
        raise ConceptError(
            f"columns {_listed([*alike, n_columns - 1])} tag the same types (nested names, or a prediction beside the "
            "truth). Leave one of them, as the last column"
        )
    return -1


def _listed(columns: Sequence[int]) -> str:
    return " and ".join(str(column + 1) for column in columns)


def _with_misc_read(sentences: Sequence[Sequence[_Row]]) -> list[list[_Row]]:
    """CoNLL-U rows with the tag of their MISC column (“NER=B-LOC|SpaceAfter=No”) in its place; O where there is none.

    Raises:
        ConceptError: MISC has values, but no key of it, or more than one, holds tags.
    """
    items = [[_misc(row.columns[-1]) for row in rows] for rows in sentences]
    values: dict[str, Counter[str]] = {}
    for rows in items:
        for row in rows:
            for key, value in row.items():
                values.setdefault(key, Counter())[value] += 1
    if set(values) <= {""}:
        return [list(rows) for rows in sentences]
    keys = [key for key, found in values.items() if key.casefold() in _ENTITY_KEYS or all(is_tag(one) for one in found)]
    if len(keys) != 1:
        found = ", ".join(f"“{key}”" for key in (keys or values) if key)
        problem = "more than one holds tags" if keys else "none holds tags such as NER=B-LOC"
        raise ConceptError(
            f"of what the MISC column says ({found}), {problem}. Write the tags alone in the last column"
        )
    return [
        [_Row(row.line, [*row.columns[:-1], found.get(keys[0], "O")]) for row, found in zip(rows, read)]
        for rows, read in zip(sentences, items)
    ]


def _misc(column: str) -> dict[str, str]:
    if column in _NO_TAG:
        return {}
    pairs = (item.partition("=") for item in column.split("|"))
    return {key if mark else "": value if mark else key for key, mark, value in pairs}
