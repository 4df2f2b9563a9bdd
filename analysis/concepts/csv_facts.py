"""Parses a table of facts, one subject and answer per row: separated by commas, semicolons, tabs or bars."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from analysis.concepts.concept import Concept, Fact
from analysis.concepts.reading import place
from analysis.errors import ConceptError

__all__ = ["looks_like_facts", "parse_facts_csv"]

_COLUMNS = {"subject", "answer", "counter_answer", "template", "split"}
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_EXCEL_HINT = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)
"""A first line by which Excel is told the separator; it is no row."""


def parse_facts_csv(
    text: str, *, name: str = "uploaded", templates: tuple[str, ...] = (), filename: str = "the file"
) -> Concept:
    """Parse a table of facts: columns `subject` and `answer`, optionally `counter_answer`, `template` and `split`.

    A table with exactly two columns of other names is read as subject and answer in that order. Commas, semicolons, tabs
    or bars separate columns, whichever gives these columns.

    Raises:
        ConceptError: a line is wrong (with its number), no template is given, or the separator cannot be told.
    """
    first_line, body = 1, text
    if hint := _EXCEL_HINT.match(text):
        first_line, body = 2, text[hint.end() :]
    separator = hint[1] if hint else _separator(body, filename)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True)
    rows = _numbered(reader, first_line, filename)
    columns = [column.strip().lower() for column in next(rows, (first_line, []))[1]]
    with place(filename, f"line {first_line}"):
        columns = _checked(columns, separator)
    if not templates and "template" not in columns:
        raise ConceptError(
            f"{filename} has no template column. Give a prompt template, such as “The capital of {{subject}} is”."
        )
    facts: list[Fact] = []
    for number, values in rows:
        with place(filename, f"line {number}"):
            if len(values) != len(columns):
                raise ConceptError(
                    f"expected {len(columns)} columns, found {len(values)} (columns are separated by {_named(separator)})"
                )
            row = {column: value.strip() for column, value in zip(columns, values)}
            own = row.get("template", "")
            if not own and not templates:
                raise ConceptError("no template")
            facts.append(
                Fact(
                    row["subject"],
                    row["answer"],
                    templates=(own,) if own else (),
                    fixed_split=row.get("split") or None,  # type: ignore[arg-type]
                    counter_answer=row.get("counter_answer") or None,
                )
            )
    with place(filename):
        return Concept(name=name, title=name, templates=templates, facts=tuple(facts))


def looks_like_facts(text: str) -> bool:
    """Whether the first line names the columns subject and answer, between any of the separators."""
    return any(_names_facts(_header(text, separator)) for separator in _SEPARATORS)


def _checked(columns: list[str], separator: str) -> list[str]:
    if not _names_facts(columns):
        if len(columns) != 2:
            raise ConceptError(f"expected columns subject and answer, found {columns or 'nothing'}")
        columns = ["subject", "answer"]
    if doubled := {column for column in columns if columns.count(column) > 1}:
        raise ConceptError(f"column “{sorted(doubled)[0]}” appears twice")
    if unknown := set(columns) - _COLUMNS:
        raise ConceptError(f"unknown column “{sorted(unknown)[0]}” (columns are separated by {_named(separator)})")
    return columns


def _separator(text: str, filename: str) -> str:
    """The separator that gives columns subject and answer; else the only one that gives two columns in every row.

    Raises:
        ConceptError: no separator does, or several do.
    """
    for separator in _SEPARATORS:
        if _names_facts(_header(text, separator)):
            return separator
    two = [separator for separator in _SEPARATORS if len(_header(text, separator)) == 2]
    if len(two) > 1:
        whole = [separator for separator in two if _has_two_columns(text, separator)]
        two = whole or two
    if len(two) == 1:
        return two[0]
    if not two:
        raise ConceptError(
            f"{filename}, line 1: expected columns subject and answer, separated by commas, semicolons, tabs or bars; "
            f"found {_header(text, ',') or 'nothing'}"
        )
    raise ConceptError(
        f"{filename}, line 1: the separator may be {' or '.join(_named(one) for one in two)}. Name the columns subject and "
        "answer in the first line"
    )


def _header(text: str, separator: str) -> list[str]:
    try:
        return [
            column.strip().lower()
            for column in next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        ]
    except csv.Error:
        return []


def _has_two_columns(text: str, separator: str) -> bool:
    try:
        return all(len(row) in (0, 2) for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error:
        return False


def _names_facts(columns: list[str]) -> bool:
    return {"subject", "answer"} <= set(columns)


def _named(separator: str) -> str:
    return _SEPARATORS.get(separator, f"“{separator}”")


def _numbered(reader: Any, first_line: int, filename: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the file's line in which each ends; blank lines and rows of empty cells are left out."""
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ConceptError(f"{filename}, line {reader.line_num + first_line - 1}: {error}") from error
        if row is None:
            return
        if any(value.strip() for value in row):
            yield reader.line_num + first_line - 1, row
