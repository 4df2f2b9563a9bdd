"""Defines what all commands share: consoles, common options, the progress bar, JSON output."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from analysis.progress import Progress as Report

__all__ = [
    "AsJson",
    "ConceptName",
    "Device",
    "Label",
    "ModelName",
    "Now",
    "escape",
    "names",
    "print_json",
    "progress_bar",
    "quiet_transformers",
    "stderr",
    "stdout",
]

stdout = Console()
stderr = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="End with one JSON line on stdout, for machines.")]
ModelName = Annotated[str, typer.Option("--model", help="Catalog name, hub id, folder or .gguf file.")]
ConceptName = Annotated[
    str, typer.Option("--concept", help="Name of a concept, or the path of a file (docs/concepts.md).")
]
Label = Annotated[
    str | None, typer.Option(help="Entity type of a CoNLL file (LOC), or relation of a CounterFact file (P103).")
]
Now = Annotated[bool, typer.Option("--now", help="Do not wait until the device is free of other jobs (see `queue`).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Show a bar with the current stage on stderr; yields the function that updates it."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=stderr) as bar:
        task = bar.add_task("Starting", total=1.0)
        yield lambda stage, share: bar.update(task, description=stage, completed=share)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn off the progress bars of transformers, which would break ours."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def names(header: str, shown: Iterable[str]) -> Column:
    """A table column of names that is never truncated, because names are copied into the next command.

    The other columns shrink instead; names longer than half of the screen are wrapped.
    """
    longest = max(map(len, shown), default=0)
    return Column(header, no_wrap=longest <= stdout.width // 2, overflow="fold")


def print_json(value: dict[str, Any]) -> None:
    """Print `value` as one line of JSON on stdout."""
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
