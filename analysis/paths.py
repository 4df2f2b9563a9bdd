"""Where Palimpsest keeps things on disk, and how a file is written so that no reader ever sees half of it.

`PALIMPSEST_HOME` (default `~/.palimpsest`) holds `models/` (converted models), `concepts/` (uploaded concepts), `runs/`
(relearning runs), `removals/` (edits with their evaluation), `fingerprints/` (of models that came without one), the queue
with the logs of its workers, and caches.
"""

import errno
import os
import threading
from pathlib import Path

from analysis.errors import ConfigError

__all__ = [
    "concepts_root",
    "expanded",
    "home",
    "models_root",
    "occupied",
    "real",
    "removal_roots",
    "removals_root",
    "runs_root",
    "write_atomically",
]


def home() -> Path:
    """The directory that holds everything Palimpsest writes; created on first use.

    Raises:
        ConfigError: it cannot be created.
    """
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
        ConfigError: there is no such user, or the name has characters that no path can have.
    """
    if "\0" in str(name) or not _encodable(str(name)):
        raise ConfigError(f"{str(name)!r} cannot be a path: it has a character that no file's name can have.")
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name} cannot be used ({error}). Write the whole path instead of “~…”.") from error


def occupied(path: Path) -> bool:
    """Whether a file or a non-empty folder exists at `path`; False if it cannot be read, because writing then fails."""
    try:
        return path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError:  # the name is too long, or the folder is not readable: the error on writing says which
        return False


def _encodable(name: str) -> bool:
    """Whether the file system can encode the name; it cannot encode lone surrogates."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def real(path: Path) -> Path:
    """The absolute path with symbolic links followed. Compare these to test whether two paths are the same.

    The path need not exist.
    """
    return Path(os.path.realpath(path))


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a sibling temporary file, flush it to disk and rename it into place.

    Raises:
        OSError: the file cannot be written, or `path` is `.` or `/`, which are folders.
    """
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
