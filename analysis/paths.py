"""Where Palimpsest keeps things on disk, and how a file is written so that no reader ever sees half of it.

`PALIMPSEST_HOME` (default `~/.palimpsest`) holds `models/` (converted models), `concepts/` (uploaded concepts)
`runs/` (relearning runs), `removals/` (edits with their evaluation),
`fingerprints/` (of models that came without one) and what else is cached.
"""

import os
import threading
from pathlib import Path

from analysis.errors import ConfigError

__all__ = [
    "concepts_root",
    "expanded",
    "home",
    "models_root",
    "real",
    "removal_roots",
    "removals_root",
    "runs_root",
    "write_atomically",
]


def home() -> Path:
    """The directory that holds everything Palimpsest writes; created on first use."""
    root = expanded(os.environ.get("PALIMPSEST_HOME") or Path.home() / ".palimpsest").absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{root} cannot be used as PALIMPSEST_HOME ({error.strerror}). Name a folder.") from error
    return root


def models_root() -> Path:
    return home() / "models"


def concepts_root() -> Path:
    return home() / "concepts"


def removals_root() -> Path:
    return home() / "removals"


def removal_roots() -> list[Path]:
    """Every folder in which removals may lie: `removals/`, and `operations/`, where versions before 0.2 put them."""
    return [removals_root(), home() / "operations"]


def runs_root() -> Path:
    return home() / "runs"


def expanded(name: str | Path) -> Path:
    """A path in which `~` and `~user` stand for home folders.

    Raises:
        ConfigError: there is no such user.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name} cannot be used ({error}). Write the whole path instead of “~…”.") from error


def real(path: Path) -> Path:
    """The one name of a file or folder that may be reached in several ways: absolute, with symbolic links followed.

    Whoever asks whether two paths are the same compares these. Neither need exist.
    """
    return Path(os.path.realpath(path))


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a sibling temporary file, flush it to disk and rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
