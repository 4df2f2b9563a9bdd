"""One process at a time carries out a job or changes what it will do: a lock of the operating system on JOB/.lock.

It ends with its process, however that ends. Whoever only reads a run needs none.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from analysis.errors import BusyError, RunError

if os.name == "nt":
    import msvcrt
else:
    import fcntl

__all__ = ["held"]

_FILE = ".lock"
_LOOK_EVERY = 0.05
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextmanager
def held(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a job's lock for as long as the block lasts.

    Args:
        folder: The job's.
        wait: Seconds to wait for whoever has it.

    Raises:
        BusyError: somebody else still holds it; nothing was written.
        RunError: the folder cannot be written.
    """
    until = time.monotonic() + wait
    with _opened(folder / _FILE) as file:
        while not _taken(file):
            if time.monotonic() >= until:
                raise BusyError(
                    f"“{folder.name}” is being carried out or changed by another process. Stop it first, or wait until "
                    "that has ended."
                )
            time.sleep(_LOOK_EVERY)
        yield  # closing the file lets go


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("ab")
    except OSError as error:
        raise RunError(f"{path.parent} cannot be written ({error.strerror}).") from error


def _taken(file: IO[bytes]) -> bool:
    """Whether the lock is held now; also where the file system knows no locks."""
    try:
        if os.name == "nt":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True
