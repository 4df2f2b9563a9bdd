"""Restores the weights that a branch begins with: edits and trained weights of the runs before it, kept in its folder.

ORIGIN/00/config.json            the earlier run's configuration
ORIGIN/00/0000.safetensors       what its edit changed (if it had one)
ORIGIN/00/weights.safetensors    the weights it had trained at the checkpoint
ORIGIN/01/…                      the next run, if the branch begins from another branch
"""

import json
from pathlib import Path

from analysis.edits import Ledger
from analysis.edits.ledger import edit_file
from analysis.errors import RunError
from analysis.jobs import layout
from analysis.models import LanguageModel
from analysis.relearning.config import RelearnConfig
from analysis.relearning.tasks.base import Task
from analysis.relearning.trainable import trainable
from analysis.training.checkpoint import load_values
from analysis.training.lora import LowRank
from analysis.training.slices import Slice

__all__ = ["configs", "restore", "stages"]


def stages(folder: Path) -> list[Path]:
    """The folders of the earlier runs, oldest first."""
    return sorted(folder.glob("[0-9][0-9]"))


def configs(folder: Path) -> list[RelearnConfig]:
    """The configurations of the earlier runs, oldest first; none if the run is not a branch.

    Raises:
        RunError: a configuration is missing or damaged.
    """
    return [_config(stage) for stage in stages(folder)]


def restore(model: LanguageModel, folder: Path, task: Task) -> tuple[Slice, ...]:
    """Set the unedited model to the weights that a branch begins with; returns the weights that earlier edits hold.

    Parameters that the task trains besides the model are restored, too.

    Raises:
        RunError: a configuration is missing or damaged, or there is no earlier run.
        EditError: an edit or the weights are damaged, or were made for another model.
    """
    held: tuple[Slice, ...] = ()
    if not stages(folder):
        raise RunError(f"{folder} holds no weights to begin from. Make the branch anew.")
    for stage in stages(folder):
        config, ledger = _config(stage), Ledger(model, stage)
        if (edit := edit_file(stage, 0)).is_file():
            ledger.replay(edit)
        held = (*held, *ledger.held())
        with trainable(model, config, held) as trained:
            load_values(stage / layout.WEIGHTS, [*trained.parameters, *task.parameters])
            trained.mask_update()
            if isinstance(trained, LowRank):
                trained.merge()
    return held


def _config(stage: Path) -> RelearnConfig:
    try:
        return RelearnConfig.from_dict(json.loads((stage / layout.CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RunError(f"{stage} cannot be read ({error}). Make the branch anew.") from error
