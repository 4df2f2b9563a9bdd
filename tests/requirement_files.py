"""The requirements files, read without what builds the package."""

from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["requirements"]

_ROOT = Path(__file__).parents[1]


def requirements(name: str) -> list[Requirement]:
    """What a requirements file at the top of the repository lists itself; what it includes by `-r` is left out."""
    lines = (line.partition("#")[0].strip() for line in (_ROOT / name).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]
