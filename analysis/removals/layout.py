"""The names of the files in a removal's folder, those of earlier versions included; `jobs.layout` has those of every job."""

from pathlib import Path

__all__ = ["EVALUATION", "EVALUATION_TABLE", "RECIPE", "RECORD_FILES", "record_file"]

RECORD_FILES = ("removal.json", "operation.json")
"""The settings of the removal; versions before 0.2 used the second name."""
RECIPE = "recipe.json"
"""The edits, and everything needed to repeat them."""
EVALUATION = "evaluation.json"
"""Every measure before and after."""
EVALUATION_TABLE = "evaluation.csv"
"""The same as a table."""


def record_file(folder: Path) -> Path | None:
    """The file in `folder` with the settings of the removal; None if the folder is not a removal's."""
    return next((folder / name for name in RECORD_FILES if (folder / name).is_file()), None)
