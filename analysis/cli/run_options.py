"""Defines what the commands that execute a run share: options of the edit and settings, the queue, the printed result."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.cli.common import print_json, progress_bar, quiet_transformers
from analysis.cli.runs import print_summary
from analysis.errors import ConfigError

if TYPE_CHECKING:  # slow to import
    from analysis.edits import ComponentEdit
    from analysis.runs.directory import RunDirectory

__all__ = [
    "Fill",
    "Hold",
    "Method",
    "Pick",
    "Prune",
    "PruneTop",
    "ReverseTop",
    "Settings",
    "component_edit",
    "execute",
    "read_settings",
]

PruneTop = Annotated[float | None, typer.Option(help="Prune this share of all neurons (0.01 = 1%).")]
Prune = Annotated[str | None, typer.Option(help="Prune these components: “L5.N123, L7.H3, L9.MLP”.")]
ReverseTop = Annotated[float | None, typer.Option(help="Reverse this share of all neurons.")]
Fill = Annotated[str, typer.Option(help="What pruned activations become: zero or mean.")]
Hold = Annotated[bool, typer.Option(help="Hold pruned weights at zero through training.")]
Method = Annotated[str, typer.Option(help="Saliency method that ranks the neurons (see `methods`).")]
Pick = Annotated[str, typer.Option(help="none, random or layer_matched (random controls).")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting as NAME=VALUE, repeatable: “--set cadence=log” (docs/runs.md)."),
]

_WRITTEN = {
    "whole number": "{name}=10",
    "number": "{name}=0.5",
    "switch": "{name}=true or {name}=false",
    "list": """'{name}=["a", "b"]'""",
}
"""How to write a setting of each kind on the command line; texts are taken literally."""


def component_edit(
    prune_top: float | None,
    prune: str | None,
    reverse_top: float | None,
    *,
    fill: str,
    hold: bool,
    method: str,
    pick: str,
    seed: int,
) -> "ComponentEdit":
    """The edit that the options describe; default: prune the top 1%.

    Raises:
        ConfigError: more than one option chooses components, or a value is out of range.
    """
    from analysis.edits import ComponentEdit, Selection
    from analysis.saliency.carriers import CARRIER_SHARE

    if sum(choice is not None for choice in (prune_top, prune, reverse_top)) > 1:
        raise ConfigError("Give one of --prune-top, --prune and --reverse-top, not several.")
    selection = Selection(
        rule="top_fraction" if prune is None else "explicit",
        value=next((value for value in (prune_top, reverse_top) if value is not None), CARRIER_SHARE),
        components=prune or "",
        method=method,
        control=pick,  # type: ignore[arg-type]
        seed=seed,
    )
    return ComponentEdit(
        kind="prune" if reverse_top is None else "reverse",
        fill=fill,  # type: ignore[arg-type]
        hold=hold,
        selection=selection,
    )


def read_settings(given: Sequence[str] | None) -> dict[str, Any]:
    """Parse `NAME=VALUE` options to settings of a run: JSON numbers, true, false, null and lists; quotes around texts are optional.

    Raises:
        ConfigError: a setting is unknown, or its value is missing or of another type; the message says how to write it.
    """
    from analysis.relearning import RelearnConfig
    from analysis.relearning.config import check_kind, kind_of

    known = {field.name for field in dataclasses.fields(RelearnConfig)} - {"model", "concept", "edit", "origin"}
    found: dict[str, Any] = {}
    for one in given or ():
        name, equals, text = one.partition("=")
        if not equals or name not in known:
            raise ConfigError(f"“{one}” is not a setting. Write NAME=VALUE, with one of: {', '.join(sorted(known))}.")
        kind, value = kind_of(name), _from_json(text)
        if kind == "text":
            found[name] = value if isinstance(value, str) else text
            continue
        found[name] = tuple(value) if isinstance(value, list) else value
        try:
            check_kind(name, found[name])
        except ConfigError as error:
            raise ConfigError(f"{error} Write: --set {_WRITTEN[kind].format(name=name)}") from error
    return found


def _from_json(text: str) -> Any:
    """`text` parsed as JSON, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def execute(run: "RunDirectory", *, now: bool, as_json: bool) -> None:
    """Wait for the run's turn on its device, execute it in this process, and print its summary."""
    from analysis.jobs import queue
    from analysis.runs import execution
    from analysis.runs.summary import summarise

    with (
        progress_bar() as report,
        quiet_transformers(),
        queue.turn(run.path, "run", run.config.device, say=lambda text: report(text, 0.0), now=now),
    ):
        execution.execute(run, lambda done: report(done.stage, done.done / done.total))
    summary = summarise(run)
    if as_json:
        return print_json(summary)
    print_summary(summary)
