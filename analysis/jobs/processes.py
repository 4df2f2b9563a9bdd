"""Identifies a process by more than its id, which may be reused after it ends or after a reboot.

On Linux the identity is the id, the boot, and the time from boot to the process's start as the kernel counts it, which
does not change when the clock is set. On other systems it is the id and the time of creation.
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
"""States of a process that has ended; a zombie only waits until its parent reads the exit code."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """The identity of one process, different from that of any other process with the same id."""

    pid: int
    started: float
    """Seconds from boot to its start (Linux), or the time of creation."""
    boot: str
    """Identifier of the boot; empty if unknown."""
    host: str

    @property
    def is_here(self) -> bool:
        """Whether the process belongs to this machine (or container), where its state can be looked up."""
        return self.host == platform.node()

    def is_alive(self) -> bool:
        """Whether the process runs on this machine now."""
        return self.is_here and find(self.pid) == self


def current() -> Process:
    """The identity of this process; it does not change over an `exec`."""
    found = find(os.getpid())
    if found is None:
        raise RuntimeError("this process is not in the table of processes")
    return found


def find(pid: int) -> Process | None:
    """The process that has this id now; None if there is none or it has ended."""
    found = _from_proc(pid) if (_PROC / "self" / "stat").exists() else _from_psutil(pid)
    if found is None:
        return None
    started, boot = found
    return Process(pid=pid, started=started, boot=boot, host=platform.node())


def ended(pid: int) -> Process:
    """An identity for a process of this machine that ended before it could be looked up."""
    return Process(pid=pid, started=-1.0, boot="", host=platform.node())


def _from_proc(pid: int) -> tuple[float, str] | None:
    try:
        # the name, in brackets, may itself contain spaces and brackets
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
