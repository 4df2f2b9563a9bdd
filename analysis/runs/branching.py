"""Creates a branch: a new run that begins from a checkpoint of another, with another edit on top."""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from analysis import runs
from analysis.edits import Edit
from analysis.edits.ledger import edit_file
from analysis.errors import ConfigError, RunError
from analysis.jobs import layout
from analysis.relearning import Beginning, Origin, RelearnConfig
from analysis.relearning.branch_weights import stages
from analysis.relearning.fine_tuning import VALUES
from analysis.runs.directory import RunDirectory
from analysis.runs.files import read_facts, read_snapshot
from analysis.training.checkpoint import copy_values, state_path

__all__ = ["beginning_of", "branch"]

_INHERITED = (
    "model",
    "concept",
    "task",
    "fine_tune_steps",
    "track",
    "methods",
    "precision",
    "known_threshold",
    "pinned",
    "follow_top",
    "origin",
)
"""Settings that a branch takes from its parent run, because they share facts and the snapshot of the unedited model."""


def branch(
    run: RunDirectory, step: int, *, edit: Edit | None, path: Path | None = None, **changes: Any
) -> RunDirectory:
    """Create a run, not started, that begins from the weights `run` had after `step`; `run` may be deleted afterwards.

    Its facts, followed neurons and first snapshot (of the unedited model) are those of `run`; weights that the edit of
    `run` holds stay held.

    Args:
        run: The parent run; it may still be running.
        step: One of its checkpoints (`RunDirectory.checkpoints`).
        edit: The edit to apply to these weights; None continues training without one.
        path: New folder; None creates one in the runs folder.
        changes: Other settings of the new run, such as `steps=48`.

    Raises:
        RunError: there is no such checkpoint, or the new run cannot be written.
        ConfigError: a setting is unknown, out of range, or one that a branch takes from its parent run.
        EditError: the checkpoint is damaged.
    """
    kept = run.checkpoints()
    if step not in kept:
        there = f"There are those after {', '.join(map(str, kept))} steps" if kept else "It has none yet"
        raise RunError(
            f"“{run.name}” keeps no checkpoint after {step} steps. {there}; a run with the setting `keep_checkpoints` keeps "
            "all of them."
        )
    if run.config.origin is not None and not stages(run.path / layout.ORIGIN):
        raise RunError(
            f"“{run.name}” is the control of a branch, and its first weights are kept in the branch's folder. Branch from the "
            "branch itself."
        )
    known = {field.name for field in fields(RelearnConfig)}
    for name in changes:
        if name not in known:
            raise ConfigError(f"There is no setting “{name}”.")
        if name in _INHERITED:
            raise ConfigError(f"A branch has “{name}” from the run before it. Start a new run to change it.")
    config = replace(run.config, edit=edit, origin=Origin(run=run.name, step=step), **changes)
    fill = _filling(run, step, same_text=config.text == run.config.text)
    if path is None:
        return runs.create_in_home(config, concepts=run.concepts(), fill=fill)
    return runs.create(config, path, concepts=run.concepts(), fill=fill)


def beginning_of(run: RunDirectory) -> Beginning | None:
    """What a branch shares with its parent run; None for a run that is not a branch.

    Raises:
        RunError: a file of it is missing or damaged.
    """
    if run.config.origin is None:
        return None
    folder = run.path / layout.ORIGIN
    found = read_facts(folder / layout.FACTS, run.facts_by_name())
    if found is None:
        raise RunError(f"{folder} holds no facts to begin with. Make the branch anew.")
    try:
        base = read_snapshot(folder / layout.BASE_SNAPSHOT, run.config.tracked)
    except RunError as error:
        raise RunError(f"{folder} holds no snapshot to begin with, or a damaged one. Make the branch anew.") from error
    return Beginning(
        table=found.table,
        base=base,
        followed=found.followed,
        edited=found.edited,
        edited_heads=found.edited_heads,
        digests=found.digests,
        precision=found.precision,
    )


def _filling(run: RunDirectory, step: int, *, same_text: bool) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        origin = folder / layout.ORIGIN
        origin.mkdir()
        before = stages(run.path / layout.ORIGIN)
        for stage in before:
            shutil.copytree(stage, origin / stage.name)
        stage = origin / f"{len(before):02d}"
        stage.mkdir()
        (stage / layout.CONFIG).write_text(json.dumps(run.config.to_dict()), encoding="utf-8")
        if (edit := edit_file(run.path / layout.EDITS, 0)).is_file():
            shutil.copyfile(edit, stage / edit.name)
        copy_values(state_path(run.path / layout.CHECKPOINTS, step), stage / layout.WEIGHTS)
        if (tuned := run.fine_tuned / VALUES).is_file():
            (folder / layout.FINE_TUNED).mkdir()
            shutil.copyfile(tuned, folder / layout.FINE_TUNED / VALUES)
        shutil.copyfile(run.path / layout.FACTS, origin / layout.FACTS)
        shutil.copyfile(layout.snapshot_file(run.path, 0), origin / layout.BASE_SNAPSHOT)
        if same_text and run.config.text:
            shutil.copyfile(run.path / layout.TEXT, folder / layout.TEXT)

    return fill
