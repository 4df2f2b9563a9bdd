"""Helpers shared by the concept parsers: errors with file and line, checked JSON fields, and choosing a label."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from analysis.errors import ConceptError

__all__ = ["choose", "counted", "pairs_field", "place", "text_field", "texts_field"]

_SHOWN = 40
"""Most types or relations that an error lists; the rest are only counted."""


@contextmanager
def place(filename: str, where: str = "") -> Iterator[None]:
    """Prefix any `ConceptError` raised inside with the file name and the place in it (“line 3”)."""
    try:
        yield
    except ConceptError as error:
        raise ConceptError(f"{filename}, {where}: {error}" if where else f"{filename}: {error}") from error


def text_field(row: dict[str, Any], field: str, default: str | None = None) -> str:
    value = row.get(field, default)
    if not isinstance(value, str):
        raise ConceptError(f"“{field}” must be a text")
    return _whole(value)


def texts_field(row: dict[str, Any], field: str) -> tuple[str, ...]:
    value = row.get(field, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConceptError(f"“{field}” must be a list of texts")
    return tuple(_whole(item) for item in value)


def pairs_field(row: dict[str, Any], field: str) -> tuple[tuple[str, str], ...]:
    """An object of texts as (key, value) pairs, in its order."""
    value = row.get(field, {})
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ConceptError(f'“{field}” must be an object of texts, such as {{"Germany": "Deutschland"}}')
    return tuple((_whole(key), _whole(item)) for key, item in value.items())


def choose(counts: Counter[str], label: str, *, kind: str) -> set[str]:
    """Returns the keys of `counts` that equal `label`, ignoring case.

    Raises:
        ConceptError: there is none; the message lists the keys.
    """
    found = {one for one in counts if one.casefold() == label.strip().casefold()}
    if not found:
        raise ConceptError(f"there is no {kind} “{label.strip()[:60]}”. There are: {counted(counts)}.")
    return found


def counted(counts: Counter[str]) -> str:
    """“LOC (7,140), PER (6,600)”: the most frequent first."""
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{one} ({count:,})" for one, count in listed[:_SHOWN]]
    return ", ".join(texts) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")


def _whole(text: str) -> str:
    """Refuse lone surrogates: JSON can spell them, but no tokenizer can read them."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConceptError(f"a text is not valid Unicode ({error.reason})") from error
    return text
