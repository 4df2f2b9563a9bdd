"""The names of the files in a removal's folder, those of earlier versions included; `jobs.layout` has those of every job."""

from pathlib import Path

__all__ = ["EVALUATION", "EVALUATION_TABLE", "RECIPE", "RECORD_FILES", "record_file"]

RECORD_FILES = ("removal.json", "operation.json")
"""What was asked for, under today's name and the one that versions before 0.2 gave it."""
RECIPE = "recipe.json"
"""The edits, and all that is needed to carry them out again."""
EVALUATION = "evaluation.json"
"""Every measure before and after."""
EVALUATION_TABLE = "evaluation.csv"
"""The same as a table."""


def record_file(folder: Path) -> Path | None:
    """The file in `folder` that says what was asked for; None where it is no removal's folder."""
    return next((folder / name for name in RECORD_FILES if (folder / name).is_file()), None)
