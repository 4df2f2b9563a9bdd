"""Reads training text from a file or a hub data set, and stores it with the run that uses it."""

import json
from collections.abc import Sequence
from pathlib import Path

from analysis import paths
from analysis.errors import ConfigError

__all__ = ["is_file_name", "load", "read", "store"]

_MOST_TEXTS = 10_000
_MOST_HUB_TEXTS = 2_000


def is_file_name(reference: str) -> bool:
    """Whether a reference names a file rather than a hub data set."""
    return Path(reference).suffix.lower() in (".txt", ".jsonl")


def read(reference: str) -> tuple[str, ...]:
    """Read the texts of `reference`: the first 10,000 of a file, or the first 2,000 of a hub data set.

    Args:
        reference: A .txt file with one text per line, a .jsonl file with one JSON string or object with “text” per line, or
            a hub data set: `owner/name`, `owner/name:configuration`.

    Raises:
        ConfigError: the file cannot be read or holds no text, or a line is wrong (with its number).
        FetchError: the data set cannot be read.
    """
    if is_file_name(reference):
        return _read_file(paths.expanded(reference))
    from analysis.concepts.general_text import from_hub

    name, _, configuration = reference.partition(":")
    return from_hub(name, n_texts=_MOST_HUB_TEXTS, config=configuration or None).texts


def store(path: Path, texts: Sequence[str]) -> None:
    """Write texts as JSON lines that `load` reads."""
    paths.write_atomically(path, "".join(json.dumps(text) + "\n" for text in texts).encode())


def load(path: Path) -> tuple[str, ...]:
    """Read texts written by `store`.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    return _read_file(path)


def _read_file(path: Path) -> tuple[str, ...]:
    try:
        # not `splitlines`, which also splits at separators that occur inside texts, such as U+2028
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"The text {path} cannot be read ({error}). Give a .txt or .jsonl file in UTF-8.") from error
    texts = []
    for number, line in enumerate(lines, 1):
        text = _text(line, f"{path} line {number}") if path.suffix.lower() == ".jsonl" else line
        if text.strip():
            texts.append(text.strip())
        if len(texts) == _MOST_TEXTS:
            break
    if not texts:
        raise ConfigError(f"{path} holds no text. Write one text per line.")
    return tuple(texts)


def _text(line: str, where: str) -> str:
    if not line.strip():
        return ""
    try:
        value = json.loads(line)
        text = value["text"] if isinstance(value, dict) else value
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{where} is no text ({error!r}). Write a JSON string, or an object with “text”.") from error
    if not isinstance(text, str):
        raise ConfigError(f"{where} is no text. Write a JSON string, or an object with “text”.")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ConfigError(f"{where} holds half a character (a lone surrogate such as \\ud800). Remove or complete it.")
    return text
