"""The command that removes a concept, retrains, and records how it comes back."""

from pathlib import Path
from typing import Annotated

import typer

from analysis import catalog
from analysis.cli.common import (
    AsJson,
    ConceptName,
    Device,
    Label,
    ModelName,
    Now,
    print_json,
    progress_bar,
    quiet_transformers,
)
from analysis.cli.runs import print_summary
from analysis.errors import ConfigError

__all__ = ["relearn"]


def relearn(
    model: ModelName = catalog.DEFAULT_MODEL,
    concept: ConceptName = "capitals",
    label: Label = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the run (default: in the runs folder).")] = None,
    prune_top: Annotated[float | None, typer.Option(help="Prune this share of all neurons (0.01 = 1%).")] = None,
    prune: Annotated[str | None, typer.Option(help="Prune these components: “L5.N123, L7.H3, L9.MLP”.")] = None,
    reverse_top: Annotated[float | None, typer.Option(help="Reverse this share of all neurons.")] = None,
    train_only: Annotated[str, typer.Option(help="Train these components alone: “L5.MLP, L7.H3”.")] = "",
    fill: Annotated[str, typer.Option(help="What pruned activations become: zero or mean.")] = "zero",
    hold: Annotated[bool, typer.Option(help="Hold pruned weights at zero through training.")] = True,
    method: Annotated[str, typer.Option(help="Saliency that ranks (see `methods`).")] = "probeless",
    pick: Annotated[str, typer.Option(help="none, random or layer_matched (random controls).")] = "none",
    track: Annotated[list[str] | None, typer.Option(help="Further concepts to track (repeatable).")] = None,
    steps: int = 24,
    batch_size: Annotated[int, typer.Option(help="Texts in a batch.")] = 16,
    neutral_share: Annotated[float, typer.Option(help="Share of neutral sentences in a batch.")] = 0.375,
    learning_rate: float = 5e-5,
    snapshot_every: Annotated[int, typer.Option(help="Steps between snapshots.")] = 3,
    known_threshold: Annotated[float, typer.Option(help="Facts below this mean P(answer) are set aside.")] = 0.3,
    seed: int = 0,
    device: Device = "auto",
    control: Annotated[bool, typer.Option(help="Also run the same training without the edit.")] = True,
    now: Now = False,
    as_json: AsJson = False,
) -> None:
    """Remove a concept, retrain, and record how it comes back, beside a control run without the edit."""
    from analysis import concepts as library
    from analysis import migration, queue, running, runs
    from analysis.edits import ComponentEdit, Selection
    from analysis.relearn import RelearnConfig

    if sum(choice is not None for choice in (prune_top, prune, reverse_top)) > 1:
        raise ConfigError("Give one of --prune-top, --prune and --reverse-top, not several.")
    share = next((value for value in (prune_top, reverse_top) if value is not None), 0.01)
    selection = Selection(
        rule="top_fraction" if prune is None else "explicit",
        value=share,
        components=prune or "",
        method=method,
        control=pick,  # type: ignore[arg-type]
        seed=seed,
    )
    edit = ComponentEdit(
        kind="prune" if reverse_top is None else "reverse",
        fill=fill,  # type: ignore[arg-type]
        hold=hold,
        selection=selection,
    )
    chosen = library.load(concept, label=label)
    others = [library.load(name) for name in track or ()]
    source = catalog.resolve(model)
    config = RelearnConfig(
        model=source.reference,
        concept=chosen.name,
        edit=edit,
        train_only=train_only,
        track=tuple(other.name for other in others),
        steps=steps,
        batch_size=batch_size,
        neutral_share=neutral_share,
        snapshot_every=snapshot_every,
        known_threshold=known_threshold,
        seed=seed,
        device=device,
        control=control,
        learning_rate=learning_rate,
    )
    known = {one.name: one for one in (chosen, *others)}
    run = runs.create(config, out if out is not None else runs.new_path(config), concepts=known)
    with (
        progress_bar() as report,
        quiet_transformers(),
        queue.turn(run.path, "run", device, say=lambda text: report(text, 0.0), now=now),
    ):
        running.carry_out(run, lambda done: report(done.stage, done.done / done.total))
    summary = migration.summarise(run)
    if as_json:
        return print_json(summary)
    print_summary(summary)
