"""Reads the records of a benchmark's file: JSON, JSON lines or Parquet, in one set or in several named ones.

What a record means is decided in `analysis.concepts.benchmarks`.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.errors import ConceptError

__all__ = ["Record", "Sets", "first_object", "json_sets", "parquet_sets"]

Record = dict[str, Any]
Sets = dict[str, list[Record]]
"""Name of a set (such as “forget”; empty where there is only one) -> its records."""

_MOST_RECORDS = 200_000
_MOST_BYTES = 512 * 2**20
_WHOLE = ("data", "rows", "records", "examples")
"""Keys under which a file keeps its only list of records."""


def json_sets(text: str, filename: str) -> Sets:
    """The records of JSON, or of JSON lines: a list, an object of lists (sets, or columns), or one record.

    Raises:
        ConceptError: it is neither, or a record is not an object (with its number, or its line in JSON lines).
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if first_object(text) is None:
            raise ConceptError(
                f"{filename}: not valid JSON ({error}). A file of JSON lines needs one object in every line."
            ) from error
        value = _lines(text, filename)
    if isinstance(value, dict) and value:
        lists = {key: one for key, one in value.items() if isinstance(one, list) and one}
        if len(lists) == 1 and (only := next(iter(lists))) in _WHOLE:
            return {"": _records(lists[only], filename)}
        if lists and all(isinstance(item, dict) for one in lists.values() for item in one):
            if len(lists) < len(value):
                others = sorted(set(value) - set(lists))
                if _is_record(value):
                    return {"": [value]}
                raise ConceptError(f"{filename}: “{others[0]}” is no list of records, as “{next(iter(lists))}” is")
            return {key: _records(one, f"{filename}, set {key}") for key, one in lists.items()}
        if len(lists) == len(value) and len({len(one) for one in lists.values()}) == 1 and not _is_record(value):
            return {"": [dict(zip(lists, row)) for row in zip(*lists.values())]}
        return {"": [value]}
    if not isinstance(value, list) or not value:
        raise ConceptError(f"{filename}: expected a list of records")
    return {"": _records(value, filename)}


def parquet_sets(content: bytes, filename: str) -> Sets:
    """The records of a Parquet file.

    Raises:
        ConceptError: it cannot be read, or is too large once unpacked.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        meta = file.metadata
        size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        if meta.num_rows > _MOST_RECORDS or size > _MOST_BYTES:
            raise ConceptError(
                f"{filename} unpacks to {meta.num_rows:,} records and {size >> 20:,} MiB; at most {_MOST_RECORDS:,} and "
                f"{_MOST_BYTES >> 20} MiB are read. Split it."
            )
        rows = file.read().to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ConceptError(f"{filename} is not a Parquet file that can be read ({str(error)[:200]}).") from error
    if not rows:
        raise ConceptError(f"{filename}: expected a list of records")
    return {"": rows}


def first_object(text: str) -> Record | None:
    """The object in the first line that is not blank; None if that line is not an object."""
    line = next((line for line in text.split("\n") if line.strip()), "")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _lines(text: str, filename: str) -> list[Record]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise ConceptError(f"{filename}, line {number}: not valid JSON ({error})") from error
    return found


def _records(value: Sequence[Any], filename: str) -> list[Record]:
    if len(value) > _MOST_RECORDS:
        raise ConceptError(f"{filename}: {len(value):,} records; at most {_MOST_RECORDS:,} are read. Split the file.")
    for number, record in enumerate(value, start=1):
        if not isinstance(record, dict):
            raise ConceptError(f"{filename}, record {number}: expected an object")
    return list(value)


def _is_record(value: Mapping[str, Any]) -> bool:
    """Whether an object has a text of its own, as a record has, rather than lists only."""
    return any(isinstance(one, str) for one in value.values()) or isinstance(
        value.get("requested_rewrite"), (dict, list)
    )
