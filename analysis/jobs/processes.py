"""Which process it was: a process id alone may have been given to another one since, or belong to another boot.

On Linux a process is known by the time since boot at which it started (the kernel's own count, which no change of the
clock moves) and the boot it belongs to; elsewhere by its time of creation.
"""

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

__all__ = ["Process", "current", "ended", "find"]

_PROC = Path("/proc")
_DEAD = ("Z", "X")
"""A zombie has ended, too: it only waits for somebody to read its exit code."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process, told apart from all others that had or will have its id."""

    pid: int
    started: float
    """Seconds after boot (Linux), or time of creation."""
    boot: str
    """The boot it belongs to; empty where that is not known."""
    host: str

    @property
    def is_here(self) -> bool:
        """Whether it belongs to this machine (or this container), so that its life can be looked up."""
        return self.host == platform.node()

    def is_alive(self) -> bool:
        """Whether it still runs, as far as this machine can tell."""
        return self.is_here and find(self.pid) == self


def current() -> Process:
    """This process.

    It stays the same over an `exec`.
    """
    found = find(os.getpid())
    if found is None:
        raise RuntimeError("this process is not in the table of processes")
    return found


def find(pid: int) -> Process | None:
    """The process that has this id now; None where there is none, or one that has ended."""
    found = _from_proc(pid) if (_PROC / "self" / "stat").exists() else _from_psutil(pid)
    if found is None:
        return None
    started, boot = found
    return Process(pid=pid, started=started, boot=boot, host=platform.node())


def ended(pid: int) -> Process:
    """What stands for a process of this machine that ended before it could be looked up."""
    return Process(pid=pid, started=-1.0, boot="", host=platform.node())


def _from_proc(pid: int) -> tuple[float, str] | None:
    try:
        # The name, in brackets, may hold spaces and brackets itself.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in _DEAD else (int(fields[19]) / os.sysconf("SC_CLK_TCK"), _boot())
    except (OSError, IndexError, ValueError):
        return None


def _from_psutil(pid: int) -> tuple[float, str] | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else (process.create_time(), "")
    except psutil.Error:
        return None


@cache
def _boot() -> str:
    try:
        return (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
    except OSError:
        return ""
