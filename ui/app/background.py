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

__all__ = ["Computation", "find", "forget", "start", "stop_all"]


class _StoppedError(Exception):
    """Ends the thread of a computation that was stopped."""


@dataclass(eq=False)
class Computation:
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
class _Computations:
    lock: threading.Lock = field(default_factory=threading.Lock)
    by_key: dict[Any, Computation] = field(default_factory=dict)


@st.cache_resource(show_spinner=False)
def _computations() -> _Computations:
    return _Computations()


def start(key: Any, label: str, work: Callable[[ShareDone], Any], *, then: Callable[[Any], None]) -> Computation:
    """Run `work` in a thread and pass its result to `then`; if one with this key is running, return that instead."""
    found = _computations()
    with found.lock:
        running = found.by_key.get(key)
        if running is not None and not running.done:
            return running
        computation = found.by_key[key] = Computation(label)
    threading.Thread(target=_run, args=(key, computation, work, then), name=label, daemon=True).start()
    return computation


def find(key: Any) -> Computation | None:
    """The computation with this key, if it is running or has failed."""
    return _computations().by_key.get(key)


def forget(key: Any) -> None:
    """Drop a failed computation, once its error has been shown."""
    _computations().by_key.pop(key, None)


def stop_all() -> None:
    """Stop all computations, before the model that they use is dropped."""
    for computation in list(_computations().by_key.values()):
        computation.stop()


def _run(key: Any, computation: Computation, work: Callable[[ShareDone], Any], then: Callable[[Any], None]) -> None:
    def progress(share: float) -> None:
        computation.share = min(max(share, 0.0), 1.0)
        if computation.stopping.is_set():
            raise _StoppedError

    try:
        then(work(progress))
        _computations().by_key.pop(key, None)
    except _StoppedError:
        _computations().by_key.pop(key, None)
    except PalimpsestError as error:
        computation.error = error
    except Exception:
        _computations().by_key.pop(key, None)  # a bug: it surfaces in the server's log
        raise
    finally:
        computation.done = True
