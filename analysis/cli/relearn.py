"""Command that removes a concept, retrains, and records how it comes back."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.cli.common import AsJson, ConceptName, Device, Label, ModelName, Now
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
from analysis.errors import ConfigError
from analysis.models import catalog

if TYPE_CHECKING:  # slow to import
    from analysis.concepts import Concept
    from analysis.relearning import RelearnConfig

__all__ = ["relearn"]

_STEPS = 24
_FINE_TUNE_EPOCHS, _EPOCHS = 5, 8
"""The numbers of Lo, Cohen & Barez 2024 (arXiv 2401.01814)."""


def relearn(
    model: ModelName = catalog.DEFAULT_MODEL,
    concept: ConceptName = "capitals",
    label: Label = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the run (default: in the runs folder).")] = None,
    task: Annotated[str, typer.Option(help="facts: recall them; tagging: find the concept's words (NER).")] = "facts",
    prune_top: PruneTop = None,
    prune: Prune = None,
    reverse_top: ReverseTop = None,
    train_only: Annotated[str, typer.Option(help="Train only these components: “L5.MLP, L7.H3”.")] = "",
    fill: Fill = "zero",
    hold: Hold = True,
    method: Method = "probeless",
    pick: Pick = "none",
    track: Annotated[list[str] | None, typer.Option(help="Further concepts to track (repeatable).")] = None,
    fine_tune_epochs: Annotated[
        int | None, typer.Option(help="For tagging: epochs of fine-tuning before anything is measured (default: 5).")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="For tagging, instead of --steps: epochs, a snapshot after each (default: 8).")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps (default: 24).")] = None,
    batch_size: Annotated[int, typer.Option(help="Texts in a batch.")] = 16,
    neutral_share: Annotated[float, typer.Option(help="Share of neutral sentences in a batch.")] = 0.375,
    learning_rate: float = 5e-5,
    snapshot_every: Annotated[
        int | None, typer.Option(help="Steps between snapshots (default: as often as a share of the time allows).")
    ] = None,
    known_threshold: Annotated[float, typer.Option(help="Facts below this mean P(answer) are set aside.")] = 0.3,
    seed: int = 0,
    device: Device = "auto",
    control: Annotated[bool, typer.Option(help="Also run the same training without the edit.")] = True,
    settings: Settings = None,
    now: Now = False,
    as_json: AsJson = False,
) -> None:
    """Remove a concept, retrain, and record how it comes back, beside a control run without the edit."""
    from analysis import concepts as library
    from analysis import runs
    from analysis.relearning import RelearnConfig

    edit = component_edit(prune_top, prune, reverse_top, fill=fill, hold=hold, method=method, pick=pick, seed=seed)
    chosen = library.load(concept, label=label)
    others = [library.load(name) for name in track or ()]
    source = catalog.resolve(model)
    if task != "tagging" and (epochs is not None or fine_tune_epochs is not None):
        raise ConfigError("--epochs and --fine-tune-epochs belong to --task tagging. Give --steps instead.")
    if epochs is not None and steps is not None:
        raise ConfigError("Give --epochs or --steps, not both.")
    config = RelearnConfig(
        model=source.reference,
        concept=chosen.name,
        task=task,  # type: ignore[arg-type]
        fine_tune_steps=1 if task == "tagging" else 0,
        edit=edit,
        train_only=train_only,
        track=tuple(other.name for other in others),
        steps=_STEPS if steps is None else steps,
        batch_size=batch_size,
        neutral_share=neutral_share,
        cadence="adaptive" if snapshot_every is None else "steps",
        snapshot_every=3 if snapshot_every is None else snapshot_every,
        known_threshold=known_threshold,
        seed=seed,
        device=device,
        control=control,
        learning_rate=learning_rate,
    )
    if task == "tagging":
        tuned = _FINE_TUNE_EPOCHS if fine_tune_epochs is None else fine_tune_epochs
        trained = _EPOCHS if epochs is None and steps is None else epochs
        config = _in_epochs(config, chosen, tuned, trained)
    config = replace(config, **read_settings(settings))
    known = {one.name: one for one in (chosen, *others)}
    run = runs.create(config, out if out is not None else runs.new_path(config), concepts=known)
    execute(run, now=now, as_json=as_json)


def _in_epochs(
    config: "RelearnConfig", concept: "Concept", fine_tune_epochs: int, epochs: int | None
) -> "RelearnConfig":
    """Set fine-tuning, and training if `epochs` is given, to this many epochs; snapshots then default to one an epoch."""
    from analysis.relearning import epoch_steps

    epoch = epoch_steps(config, concept)
    config = replace(config, fine_tune_steps=epoch * fine_tune_epochs)
    if epochs is None:
        return config
    config = replace(config, steps=epoch * epochs)
    return config if config.cadence == "steps" else replace(config, cadence="steps", snapshot_every=epoch)
