"""Command about the queue: lists, cancels and rebuilds it."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from analysis import paths
from analysis.cli.common import AsJson, escape, names, print_json, stderr, stdout
from analysis.errors import ConfigError, RunError

__all__ = ["queue"]


def queue(
    cancel: Annotated[
        str | None, typer.Option(help="Take this job out of the queue, or stop it if it is running.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make a damaged queue anew from the jobs' folders.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the running and waiting jobs of each device; also restart workers that have died."""
    from analysis.jobs import queue as line

    if cancel is not None and rebuild:
        raise ConfigError("Give one of --cancel and --rebuild, not both.")
    if rebuild and (aside := line.rebuild()) is not None:
        stderr.print(f"The old queue is kept in {escape(str(aside))}.", soft_wrap=True)
    line.tend()
    if cancel is not None:
        named = {paths.real(Path(cancel)), paths.real(paths.runs_root() / cancel)}
        matches = [entry for entry in line.entries() if cancel == entry.name or paths.real(entry.path) in named]
        if not matches or not line.cancel(matches[0].path):
            raise RunError(f"“{cancel}” is not in the queue. `palimpsest queue` lists what is.")
        stderr.print(
            f"{escape(cancel)} stops after its current step."
            if matches[0].state == "running"
            else f"{escape(cancel)} was taken out of the queue.",
            soft_wrap=True,
        )
    found = line.entries()
    if as_json:
        rows = [
            {
                "name": entry.name,
                "kind": entry.kind,
                "device": entry.device,
                "place": entry.place,
                "state": entry.state,
                "owner": entry.owner,
                "path": str(entry.path),
            }
            for entry in found
        ]
        return print_json({"queue": rows})
    if not found:
        return stdout.print("Nothing is at work and nothing is queued.")
    job = names("job", [entry.name for entry in found])
    table = Table("device", "place", job, "kind", "owner", "since")
    for entry in found:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.started or entry.submitted))
        place = "at work" if entry.place == 0 else str(entry.place)
        table.add_row(entry.device, place, escape(entry.name), entry.kind, escape(entry.owner), since)
    stdout.print(table)
    return None
