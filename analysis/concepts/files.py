"""Reads concepts from files; the file's ending selects the parser.

A file is read and checked completely before anything is returned: a wrong row raises an error with its line number. The
formats are described in docs/concepts.md; each has its own module in this package.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from analysis.concepts.benchmarks import is_benchmark, read_sets
from analysis.concepts.concept import Concept
from analysis.concepts.conll import from_token_lines, looks_like_conll, parse_conll
from analysis.concepts.counterfact import from_records
from analysis.concepts.csv_facts import looks_like_facts, parse_facts_csv
from analysis.concepts.decoding import decoded
from analysis.concepts.jsonl import is_concept, parse_jsonl
from analysis.concepts.preview import Preview
from analysis.concepts.records import Sets, first_object, json_sets, parquet_sets
from analysis.errors import ConceptError

__all__ = ["ENDINGS", "concept_name", "parse", "parse_files", "preview", "preview_files", "read", "understood"]

_MAX_BYTES = 50 * 2**20
_JSONL, _CONLL = ("jsonl", "ndjson"), ("conll", "bio", "iob", "iob2")
_TABLE = ("csv", "tsv", "tab")
_TOKENS, _LABELS = "_tokens.txt", "_labels.txt"

ENDINGS = (*_JSONL, *_TABLE, *_CONLL, "txt", "json", "parquet")
"""File endings that can be read, without the dot."""


def read(path: Path, *, templates: tuple[str, ...] = (), label: str | None = None, name: str | None = None) -> Concept:
    """Read a concept from a file; `X_tokens.txt` is read together with `X_labels.txt` in the same folder.

    Args:
        path: a file with one of `ENDINGS`.
        templates: prompts for facts without one.
        label: what to read of a file that holds several: an entity type, a relation, a set, a level.
        name: name of the concept (default: the file's own, or its file name).

    Raises:
        ConceptError: the file cannot be read, or a row is wrong (with its line number).
    """
    return preview(path, templates=templates, label=label, name=name).concept


def preview(
    path: Path, *, templates: tuple[str, ...] = (), label: str | None = None, name: str | None = None
) -> Preview:
    """Read a file as `read` does, and describe how it was understood.

    Raises:
        ConceptError: as in `read`.
    """
    contents = {path.name: _content(path)}
    if path.name.endswith(_TOKENS):
        labels = path.with_name(path.name.removesuffix(_TOKENS) + _LABELS)
        if labels.exists():
            contents[labels.name] = _content(labels)
    return preview_files(contents, templates=templates, label=label, name=name)


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
    return preview_files(contents, templates=templates, label=label, name=name).concept


def preview_files(
    contents: Mapping[str, bytes],
    *,
    templates: tuple[str, ...] = (),
    label: str | None = None,
    name: str | None = None,
) -> Preview:
    """Parse files as `parse_files` does, and describe how they were understood.

    Raises:
        ConceptError: as in `parse_files`.
    """
    if len(contents) == 1:
        ((filename, content),) = contents.items()
        return _parsed(filename, content, templates=templates, label=label, name=name)
    labels_name, tokens_name = sorted(contents) if len(contents) == 2 else ("", "")
    stem = tokens_name.removesuffix(_TOKENS)
    if (labels_name, tokens_name) != (stem + _LABELS, stem + _TOKENS):
        raise ConceptError("Give one file, or the two files X_tokens.txt and X_labels.txt of one name X.")
    concept = from_token_lines(
        decoded(tokens_name, contents[tokens_name]),
        decoded(labels_name, contents[labels_name]),
        name=concept_name(stem, label, name),
        label=label,
        filename=f"{tokens_name} and {labels_name}",
    )
    return Preview(kind="Tokens and labels", concept=concept)


def parse(
    filename: str,
    content: bytes,
    *,
    templates: tuple[str, ...] = (),
    label: str | None = None,
    name: str | None = None,
) -> Concept:
    """Parse the content of a file; its ending selects the format, and the fields of its first record the benchmark.

    Args:
        filename: its ending selects the format; its stem is the concept's name if neither the file nor `name` gives one.
        content: the file: UTF-8, or UTF-16 or UTF-32 with a byte order mark; or Parquet.
        templates: prompts for facts without one.
        label: what to read of a file that holds several: an entity type, a relation, a set, a level.
        name: name of the concept; characters not allowed in a name become dashes.

    Raises:
        ConceptError: the format is unknown, or a row is wrong (with its line number).
    """
    return _parsed(filename, content, templates=templates, label=label, name=name).concept


def _parsed(
    filename: str, content: bytes, *, templates: tuple[str, ...], label: str | None, name: str | None
) -> Preview:
    stem, _, ending = filename.rpartition(".")
    ending, own_name = ending.lower(), concept_name(stem, label, name)
    if ending == "parquet":
        sets = parquet_sets(content, filename)
        return understood(sets, name=own_name, label=label, templates=templates, filename=filename)
    text = decoded(filename, content)
    is_labels = filename.endswith(_LABELS)  # a labels file alone would look like CoNLL rows
    if ending in _CONLL or (
        ending in ("txt", "tsv", "tab") and not is_labels and not looks_like_facts(text) and looks_like_conll(text)
    ):
        return Preview(kind="CoNLL", concept=parse_conll(text, name=own_name, label=label, filename=filename))
    if ending == "txt" and looks_like_facts(text):  # Excel's “Text (tab delimited)”
        ending = "csv"
    first = first_object(text) if ending in ("json", *_JSONL) else None
    if ending == "json" and is_concept(first):
        raise ConceptError(f"{filename} holds a concept in JSON lines. Give it the ending .jsonl.")
    if ending == "json" or (first is not None and not is_concept(first) and is_benchmark(first)):
        sets = json_sets(text, filename)
        return understood(sets, name=own_name, label=label, templates=templates, filename=filename)
    if ending not in ENDINGS or ending == "txt":
        raise ConceptError(_unreadable(filename))
    if label is not None:
        raise ConceptError(f"{filename}: a label chooses from CoNLL and CounterFact files only. Leave it out.")
    if ending in _TABLE:
        concept = parse_facts_csv(text, name=own_name, templates=templates, filename=filename)
        return Preview(kind="Table of facts", concept=concept)
    concept = parse_jsonl(text, name=own_name, filename=filename)
    return Preview(kind="Concept", concept=concept if name is None else replace(concept, name=own_name))


def understood(
    sets: Sets, *, name: str, label: str | None, templates: tuple[str, ...] = (), filename: str = "the file"
) -> Preview:
    """A benchmark's records, recognised by the fields of the first one.

    Raises:
        ConceptError: as in `benchmarks.read_sets` and `counterfact.from_records`.
    """
    if set(sets) == {""} and isinstance(sets[""][0].get("requested_rewrite"), dict):
        concept = from_records(sets[""], name=name, label=label, filename=filename)
        return Preview(kind="CounterFact", concept=concept, n_records=len(sets[""]))
    return read_sets(sets, name=name, label=label, templates=templates, filename=filename)


def concept_name(stem: str, label: str | None, name: str | None) -> str:
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
        f"{filename}: only .jsonl (concepts), .csv and .tsv (facts), .conll, .bio, .iob, .iob2, .txt (tokens with tags), .json and .parquet "
        "(CounterFact and other benchmarks) can be read."
    )
