"""Locks a job's folder for one process with a lock of the operating system on JOB/.lock.

A process holds it while it executes the job or changes its settings. The operating system releases the lock when the
process ends, even after a crash. Reading needs no lock.
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
_CHECK_SECONDS = 0.05
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextmanager
def held(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a job's lock while the block runs.

    Args:
        folder: The job's folder.
        wait: Seconds to wait if another process holds the lock.

    Raises:
        BusyError: another process still holds the lock; nothing was written.
        RunError: the folder cannot be written.
    """
    until = time.monotonic() + wait
    with _opened(folder / _FILE) as file:
        while not _taken(file):
            if time.monotonic() >= until:
                raise BusyError(
                    f"“{folder.name}” is being executed or changed by another process. Stop it first, or wait until that "
                    "process has ended."
                )
            time.sleep(_CHECK_SECONDS)
        yield  # closing the file releases the lock


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("ab")
    except OSError as error:
        raise RunError(f"{path.parent} cannot be written ({error.strerror}).") from error


def _taken(file: IO[bytes]) -> bool:
    """Try to take the lock; True if it is held now, or if the file system does not support locks."""
    try:
        if os.name == "nt":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True
