"""Runs long computations in threads of the server, so that the page stays responsive; any session can follow them.

A computation is started once for its key. Its function gets `progress(share)`, which it has to call regularly: a
computation that was stopped ends there.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from analysis.errors import PalimpsestError
from analysis.progress import ShareDone

__all__ = ["Job", "find", "forget", "start", "stop_all"]


class _StoppedError(Exception):
    """Ends the thread of a computation that was stopped."""


@dataclass(eq=False)
class Job:
    """One computation: running, finished, failed or stopped."""

    label: str
    share: float = 0.0
    """How much is done, 0 to 1."""
    result: Any = None
    error: PalimpsestError | None = None
    done: bool = False
    started: float = field(default_factory=time.monotonic)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the pace so far; None before it is known."""
        passed = time.monotonic() - self.started
        return passed * (1 - self.share) / self.share if self.share > 0 and passed > 1 else None

    def stop(self) -> None:
        """Let it end at its next call of `progress`."""
        self.stopping.set()


@dataclass
class _Jobs:
    lock: threading.Lock = field(default_factory=threading.Lock)
    by_key: dict[Any, Job] = field(default_factory=dict)


@st.cache_resource(show_spinner=False)
def _jobs() -> _Jobs:
    return _Jobs()


def start(key: Any, label: str, work: Callable[[ShareDone], Any], *, then: Callable[[Any], None]) -> Job:
    """Run `work` in a thread and pass its result to `then`; if one with this key is running, return that instead."""
    jobs = _jobs()
    with jobs.lock:
        running = jobs.by_key.get(key)
        if running is not None and not running.done:
            return running
        job = jobs.by_key[key] = Job(label)
    threading.Thread(target=_run, args=(key, job, work, then), name=label, daemon=True).start()
    return job


def find(key: Any) -> Job | None:
    """The computation with this key, if it is running or has failed."""
    return _jobs().by_key.get(key)


def forget(key: Any) -> None:
    """Drop a failed computation, once its error has been shown."""
    _jobs().by_key.pop(key, None)


def stop_all() -> None:
    """Stop all computations, before the model that they use is dropped."""
    for job in list(_jobs().by_key.values()):
        job.stop()


def _run(key: Any, job: Job, work: Callable[[ShareDone], Any], then: Callable[[Any], None]) -> None:
    def progress(share: float) -> None:
        job.share = min(max(share, 0.0), 1.0)
        if job.stopping.is_set():
            raise _StoppedError

    try:
        then(work(progress))
        _jobs().by_key.pop(key, None)
    except _StoppedError:
        _jobs().by_key.pop(key, None)
    except PalimpsestError as error:
        job.error = error
    except Exception:
        _jobs().by_key.pop(key, None)  # a bug: it surfaces in the server's log
        raise
    finally:
        job.done = True
