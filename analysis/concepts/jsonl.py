"""Parses and writes concepts as JSON lines, the schema documented in docs/concepts.md; saved concepts use it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from analysis.concepts.concept import Concept, Fact, Sentence, Translation
from analysis.concepts.reading import pairs_field, place, text_field, texts_field
from analysis.errors import ConceptError

__all__ = ["digest", "dump_jsonl", "is_concept", "parse_jsonl"]

_FIELDS = {
    "concept": {"type", "name", "title", "description", "templates", "paraphrases", "reverse"},
    "translation": {"type", "language", "templates", "subjects", "answers"},
    "fact": {"type", "subject", "answer", "templates", "paraphrases", "split", "counter_answer", "choices", "aliases"},
    "sentence": {"type", "text", "spans"},
}


def parse_jsonl(text: str, *, name: str = "uploaded", filename: str = "the file") -> Concept:
    """Parse the concept schema: one object a line, with "type" concept (first line, optional), translation, fact or
    sentence.

    Raises:
        ConceptError: a line is wrong (with its number).
    """
    header: dict[str, Any] = {}
    facts: list[Fact] = []
    sentences: list[Sentence] = []
    translations: list[Translation] = []
    for number, line in _numbered_lines(text):
        with place(filename, f"line {number}"):
            row = _row(line)
            if row["type"] == "concept":
                if header or facts or sentences or translations:
                    raise ConceptError("the concept line must be the first, and there can be only one")
                header = row
                for field in ("templates", "paraphrases", "reverse"):
                    texts_field(row, field)  # here, so that the error names this line
            elif row["type"] == "fact":
                facts.append(_fact(row))
            elif row["type"] == "translation":
                translations.append(_translation(row, translations))
            else:
                sentences.append(Sentence(text_field(row, "text"), _spans(row)))
    with place(filename):
        return Concept(
            name=text_field(header, "name", name),
            title=text_field(header, "title", header.get("name", name)),
            description=text_field(header, "description", ""),
            templates=texts_field(header, "templates"),
            paraphrases=texts_field(header, "paraphrases"),
            reverse=texts_field(header, "reverse"),
            translations=tuple(translations),
            facts=tuple(facts),
            sentences=tuple(sentences),
        )


def is_concept(row: dict[str, Any] | None) -> bool:
    """Whether an object is a line of the schema; benchmarks have fields of their own that are called “type”."""
    return row is not None and isinstance(row.get("type"), str) and row["type"] in _FIELDS


def dump_jsonl(concept: Concept) -> str:
    """The concept in the JSONL schema; `parse_jsonl` reads it back unchanged."""
    rows: list[dict[str, Any]] = [
        {
            "type": "concept",
            "name": concept.name,
            "title": concept.title,
            "description": concept.description,
            "templates": concept.templates,
            "paraphrases": concept.paraphrases,
        }
        | ({"reverse": concept.reverse} if concept.reverse else {})
    ]
    rows += [_translation_row(translation) for translation in concept.translations]
    for fact in concept.facts:
        row = {"type": "fact", "subject": fact.subject, "answer": fact.answer}
        extras = {
            "counter_answer": fact.counter_answer,
            "templates": fact.templates,
            "paraphrases": fact.paraphrases,
            "split": fact.fixed_split,
            "choices": fact.choices,
            "aliases": fact.aliases,
        }
        rows.append(row | {key: value for key, value in extras.items() if value})
    rows += [{"type": "sentence", "text": sentence.text, "spans": sentence.spans} for sentence in concept.sentences]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def digest(concept: Concept) -> str:
    """SHA-256 of what a concept holds, without its name, title and description: two concepts of one name are told apart."""
    plain = replace(concept, name="concept", title="", description="")
    return hashlib.sha256(dump_jsonl(plain).encode()).hexdigest()


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConceptError(f"not valid JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get("type"), str) or row["type"] not in _FIELDS:
        raise ConceptError('expected an object with "type": "concept", "translation", "fact" or "sentence"')
    if unknown := set(row) - _FIELDS[row["type"]]:
        raise ConceptError(f"unknown field “{sorted(unknown)[0]}” in a {row['type']}")
    return row


def _fact(row: dict[str, Any]) -> Fact:
    return Fact(
        text_field(row, "subject"),
        text_field(row, "answer"),
        templates=texts_field(row, "templates"),
        paraphrases=texts_field(row, "paraphrases"),
        fixed_split=row.get("split"),
        counter_answer=None if row.get("counter_answer") is None else text_field(row, "counter_answer"),
        choices=texts_field(row, "choices"),
        aliases=texts_field(row, "aliases"),
    )


def _translation(row: dict[str, Any], before: list[Translation]) -> Translation:
    translation = Translation(
        language=text_field(row, "language"),
        templates=texts_field(row, "templates"),
        subjects=pairs_field(row, "subjects") if "subjects" in row else None,
        answers=pairs_field(row, "answers"),
    )
    if any(translation.language.casefold() == other.language.casefold() for other in before):
        raise ConceptError(f"there is already a translation into {translation.language}")
    return translation


def _translation_row(translation: Translation) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "translation", "language": translation.language, "templates": translation.templates}
    if translation.subjects is not None:
        row["subjects"] = dict(translation.subjects)
    return row | ({"answers": dict(translation.answers)} if translation.answers else {})


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _spans(row: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    value = row.get("spans", [])
    if not isinstance(value, list):
        raise ConceptError("“spans” must be a list of [start, end] pairs")
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(offset) is int for offset in pair)):
            raise ConceptError("“spans” must be a list of [start, end] pairs of character offsets")
    return tuple((start, end) for start, end in value)
