"""Reads the records of a hub data set and turns them into a concept as those of a file. Uses the network.

The names of configuration and split stay in the concept's name: `locuslab/TOFU:forget10` becomes “tofu-forget10”.
"""

import itertools
import re
from pathlib import Path
from typing import Any

from analysis.concepts.files import ENDINGS, concept_name, understood
from analysis.concepts.preview import Preview
from analysis.errors import ConceptError, FetchError

__all__ = ["MOST_RECORDS", "is_hub_name", "preview_hub"]

MOST_RECORDS = 20_000
"""Most records that are read of a data set; a larger one is refused rather than cut."""
_NAME = re.compile(r"([\w.-]+)/([\w.-]+)(?::([\w.-]+))?(?::([\w.-]+))?")


def is_hub_name(reference: str) -> bool:
    """Whether a reference has the form `owner/name[:configuration[:split]]`, and neither is a file nor is called like one."""
    if _NAME.fullmatch(reference) is None or reference.lower().endswith(tuple(f".{ending}" for ending in ENDINGS)):
        return False
    return not Path(reference).expanduser().exists()


def preview_hub(
    reference: str, *, label: str | None = None, templates: tuple[str, ...] = (), name: str | None = None
) -> Preview:
    """Read a data set's records and describe how they were understood.

    Args:
        reference: `owner/name`, with `:configuration` and `:split` where it has several.
        label: A relation or level, as in files.
        templates: Prompts for records of subjects and answers without one.
        name: Name of the concept.

    Raises:
        FetchError: the data set cannot be read: offline, unknown, or without that configuration or split.
        ConceptError: it has several splits, too many records, or records of no known layout.
    """
    match = _NAME.fullmatch(reference)
    if match is None:
        raise ConceptError(
            f"“{reference[:80]}” is no hub data set: write owner/name, owner/name:configuration[:split]."
        )
    owner, data_set, configuration, split = match.groups()
    splits = _streams(f"{owner}/{data_set}", configuration)
    if split is None and len(splits) > 1:
        raise ConceptError(
            f"{reference} has several splits: {', '.join(splits)}. Choose one, such as "
            f"{owner}/{data_set}:{configuration or 'default'}:{next(iter(splits))}."
        )
    split = split or next(iter(splits))
    if split not in splits:
        raise ConceptError(f"{reference} has no split “{split}”. There are: {', '.join(splits)}.")
    records = _records(reference, splits[split])
    stem = "-".join([data_set, *([configuration] if configuration else []), *([split] if len(splits) > 1 else [])])
    return understood(
        {"": records}, name=concept_name(stem, label, name), label=label, templates=templates, filename=reference
    )


def _streams(data_set: str, configuration: str | None) -> dict[str, Any]:
    """Name of a split -> its records, none of which are read yet."""
    try:
        from datasets import load_dataset

        return dict(load_dataset(data_set, configuration, streaming=True))  # type: ignore[call-overload]
    except Exception as error:  # datasets, the hub client and the network each raise types of their own
        raise _unreadable(data_set, error) from error


def _records(reference: str, stream: Any) -> list[dict[str, Any]]:
    try:
        records = [dict(record) for record in itertools.islice(stream, MOST_RECORDS + 1)]
    except Exception as error:  # as above
        raise _unreadable(reference, error) from error
    if not records:
        raise ConceptError(f"{reference}: expected a list of records, found none")
    if len(records) > MOST_RECORDS:
        raise ConceptError(
            f"{reference} has more than {MOST_RECORDS:,} records. Name a smaller configuration or split."
        )
    return records


def _unreadable(name: str, error: Exception) -> FetchError:
    return FetchError(
        f"The data set “{name}” cannot be read ({type(error).__name__}: {str(error)[:200]}). Check the name, the configuration "
        "and the network, or give a file of it (JSON, JSON lines or Parquet)."
    )
