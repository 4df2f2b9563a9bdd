"""Commands that continue a run: resume it, give it more steps, branch from one of its checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.common import AsJson, Now
from analysis.cli.run_options import (
    Fill,
    Hold,
    Method,
    Pick,
    Prune,
    PruneTop,
    ReverseTop,
    Settings,
    component_edit,
    execute,
    read_settings,
)

__all__ = ["branch", "resume"]

RunName = Annotated[str, typer.Argument(help="Name of a run, or its path.")]


def resume(
    run: RunName,
    steps: Annotated[int | None, typer.Option(help="New total number of steps; needed for a finished run.")] = None,
    now: Now = False,
    as_json: AsJson = False,
) -> None:
    """Resume a run that was stopped, failed or crashed, or give a finished run more steps."""
    from analysis import runs
    from analysis.runs import execution

    found = runs.find(run)
    execution.prepare(found, steps=steps)
    execute(found, now=now, as_json=as_json)


def branch(
    run: RunName,
    step: Annotated[int | None, typer.Option(help="Step of the checkpoint (default: the last).")] = None,
    prune_top: PruneTop = None,
    prune: Prune = None,
    reverse_top: ReverseTop = None,
    fill: Fill = "zero",
    hold: Hold = True,
    method: Method = "probeless",
    pick: Pick = "none",
    steps: Annotated[int | None, typer.Option(help="Steps of the branch (default: as many as the run has).")] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the branch (default: in the runs folder).")] = None,
    now: Now = False,
    as_json: AsJson = False,
) -> None:
    """Start a new run from the weights of a checkpoint, with a further edit; without one, training just continues."""
    from analysis import runs
    from analysis.runs import branching

    found = runs.find(run)
    edit = None
    if any(choice is not None for choice in (prune_top, prune, reverse_top)):
        edit = component_edit(
            prune_top, prune, reverse_top, fill=fill, hold=hold, method=method, pick=pick, seed=found.config.seed
        )
    changes = read_settings(settings) | ({} if steps is None else {"steps": steps})
    at = max(found.checkpoints(), default=0) if step is None else step
    execute(branching.branch(found, at, edit=edit, path=out, **changes), now=now, as_json=as_json)
