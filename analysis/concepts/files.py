"""Reads concepts from files; the file's ending selects the parser.

A file is read and checked completely before anything is returned: a wrong row raises an error with its line number. The
formats are described in docs/concepts.md; each has its own module in this package.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from analysis.concepts.concept import Concept
from analysis.concepts.conll import from_token_lines, looks_like_conll, parse_conll
from analysis.concepts.counterfact import parse_counterfact
from analysis.concepts.csv_facts import looks_like_facts, parse_facts_csv
from analysis.concepts.decoding import decoded
from analysis.concepts.jsonl import parse_jsonl
from analysis.errors import ConceptError

__all__ = ["ENDINGS", "parse", "parse_files", "read"]

_MAX_BYTES = 50 * 2**20
_JSONL, _CONLL = ("jsonl", "ndjson"), ("conll", "bio", "iob", "iob2")
_TABLE = ("csv", "tsv", "tab")
_TOKENS, _LABELS = "_tokens.txt", "_labels.txt"

ENDINGS = (*_JSONL, *_TABLE, *_CONLL, "txt", "json")
"""File endings that can be read, without the dot."""


def read(path: Path, *, templates: tuple[str, ...] = (), label: str | None = None, name: str | None = None) -> Concept:
    """Read a concept from a file; `X_tokens.txt` is read together with `X_labels.txt` in the same folder.

    Args:
        path: a file with one of `ENDINGS`.
        templates: prompts for CSV tables without a template column.
        label: the entity type of a CoNLL file, or the relation of a CounterFact file.
        name: name of the concept (default: the file's own, or its file name).

    Raises:
        ConceptError: the file cannot be read, or a row is wrong (with its line number).
    """
    contents = {path.name: _content(path)}
    if path.name.endswith(_TOKENS):
        labels = path.with_name(path.name.removesuffix(_TOKENS) + _LABELS)
        if labels.exists():
            contents[labels.name] = _content(labels)
    return parse_files(contents, templates=templates, label=label, name=name)


def parse_files(
    contents: Mapping[str, bytes],
    *,
    templates: tuple[str, ...] = (),
    label: str | None = None,
    name: str | None = None,
) -> Concept:
    """Parse one file, or the pair `X_tokens.txt` and `X_labels.txt`, given as file name -> content.

    Raises:
        ConceptError: as in `parse`, or the files are not such a pair.
    """
    if len(contents) == 1:
        ((filename, content),) = contents.items()
        return parse(filename, content, templates=templates, label=label, name=name)
    labels_name, tokens_name = sorted(contents) if len(contents) == 2 else ("", "")
    stem = tokens_name.removesuffix(_TOKENS)
    if (labels_name, tokens_name) != (stem + _LABELS, stem + _TOKENS):
        raise ConceptError("Give one file, or the two files X_tokens.txt and X_labels.txt of one name X.")
    return from_token_lines(
        decoded(tokens_name, contents[tokens_name]),
        decoded(labels_name, contents[labels_name]),
        name=_name(stem, label, name),
        label=label,
        filename=f"{tokens_name} and {labels_name}",
    )


def parse(
    filename: str,
    content: bytes,
    *,
    templates: tuple[str, ...] = (),
    label: str | None = None,
    name: str | None = None,
) -> Concept:
    """Parse the content of a file; its ending selects the format.

    Args:
        filename: its ending selects the format; its stem is the concept's name if neither the file nor `name` gives one.
        content: the file: UTF-8, or UTF-16 or UTF-32 with a byte order mark.
        templates: prompts for CSV tables without a template column.
        label: the entity type of a CoNLL file, or the relation of a CounterFact file.
        name: name of the concept; characters not allowed in a name become dashes.

    Raises:
        ConceptError: the format is unknown, or a row is wrong (with its line number).
    """
    stem, _, ending = filename.rpartition(".")
    ending, own_name = ending.lower(), _name(stem, label, name)
    text = decoded(filename, content)
    is_labels = filename.endswith(_LABELS)  # a labels file alone would look like CoNLL rows
    if ending in _CONLL or (ending == "txt" and not is_labels and looks_like_conll(text)):
        return parse_conll(text, name=own_name, label=label, filename=filename)
    if ending == "txt" and looks_like_facts(text):  # Excel's “Text (tab delimited)”
        ending = "csv"
    if ending == "json":
        return parse_counterfact(text, name=own_name, label=label, filename=filename)
    if ending not in ENDINGS or ending == "txt":
        raise ConceptError(_unreadable(filename))
    if label is not None:
        raise ConceptError(f"{filename}: a label chooses from CoNLL and CounterFact files only. Leave it out.")
    if ending in _TABLE:
        return parse_facts_csv(text, name=own_name, templates=templates, filename=filename)
    concept = parse_jsonl(text, name=own_name, filename=filename)
    return concept if name is None else replace(concept, name=own_name)


def _name(stem: str, label: str | None, name: str | None) -> str:
    """A valid concept name from `name`, or from the file's stem and the label, so that labels of one file differ."""
    source = name if name is not None else stem if label is None else f"{stem}-{label}"
    return re.sub(r"[^\w-]+", "-", source).strip("-").lower() or "uploaded"


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConceptError(f"{path.name} is larger than {_MAX_BYTES >> 20} MiB. Split it.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ConceptError(f"{str(path)[:200]} cannot be read ({error}).") from error


def _unreadable(filename: str) -> str:
    for ending, other in ((_TOKENS, _LABELS), (_LABELS, _TOKENS)):
        if filename.endswith(ending):
            return f"{filename} needs {filename.removesuffix(ending)}{other}: the labels of its tokens, line by line."
    if filename.lower().endswith(".txt"):
        return (
            f"{filename}: a .txt file needs one token per line with its tag in the last column (O, B-LOC, I-LOC, …), or "
            "a table of facts whose first line names the columns subject and answer."
        )
    return (
        f"{filename}: only .jsonl (concepts), .csv and .tsv (facts), .conll, .bio, .iob, .iob2, .txt (tokens with tags) and .json "
        "(CounterFact) can be read."
    )
