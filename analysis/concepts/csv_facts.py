"""Parses a CSV table of facts: one subject and answer per row."""

import csv
import io

from analysis.concepts.concept import Concept, Fact
from analysis.concepts.reading import place
from analysis.errors import ConceptError

__all__ = ["parse_facts_csv"]

_COLUMNS = {"subject", "answer", "counter_answer", "template", "split"}


def parse_facts_csv(
    text: str, *, name: str = "uploaded", templates: tuple[str, ...] = (), filename: str = "the file"
) -> Concept:
    """Parse a table of facts: columns `subject` and `answer`, optionally `counter_answer`, `template` and `split`.

    A table with exactly two columns of other names is read as subject and answer in that order.

    Raises:
        ConceptError: a line is wrong (with its number), or no template is given.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [column.strip().lower() for column in reader.fieldnames or []]
    except csv.Error as error:
        raise ConceptError(f"{filename}, line 1: {error}") from error
    if not {"subject", "answer"} <= set(columns):
        if len(columns) != 2:
            raise ConceptError(f"{filename}, line 1: expected columns subject and answer, found {columns or 'nothing'}")
        columns = ["subject", "answer"]
    if doubled := {column for column in columns if columns.count(column) > 1}:
        raise ConceptError(f"{filename}, line 1: column “{sorted(doubled)[0]}” appears twice")
    if unknown := set(columns) - _COLUMNS:
        raise ConceptError(f"{filename}, line 1: unknown column “{sorted(unknown)[0]}”")
    if not templates and "template" not in columns:
        raise ConceptError(
            f"{filename} has no template column. Give a prompt template, such as “The capital of {{subject}} is”."
        )
    reader.fieldnames = columns
    facts: list[Fact] = []
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ConceptError(f"{filename}, line {reader.reader.line_num}: {error}") from error
        if row is None:
            break
        with place(filename, f"line {reader.line_num}"):
            if None in row or None in row.values():
                raise ConceptError(f"expected {len(columns)} columns")
            own = row.get("template", "").strip()
            if not own and not templates:
                raise ConceptError("no template")
            facts.append(
                Fact(
                    row["subject"].strip(),
                    row["answer"].strip(),
                    templates=(own,) if own else (),
                    fixed_split=row.get("split", "").strip() or None,  # type: ignore[arg-type]
                    counter_answer=row.get("counter_answer", "").strip() or None,
                )
            )
    with place(filename):
        return Concept(name=name, title=name, templates=templates, facts=tuple(facts))
