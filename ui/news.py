"""What is new of runs and of the queue: a question that pages ask often, and that is answered without drawing anything.

    GET /news?run=NAME     a run that is followed
    GET /news?all          the runs under way, and the queue

The answer is JSON, {"what", "text", "share"}: see `News`. A line on the page asks (`ui.live_line`).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from analysis import paths, queue, runs
from analysis.errors import PalimpsestError, RunError
from analysis.runs import RunDirectory

__all__ = ["EVERYTHING", "News", "address", "of_everything", "of_run", "route", "told"]

_PATH = "news"
EVERYTHING = f"{_PATH}?all"
"""Where to ask for all runs under way and the queue."""
_KEEP_RUN, _KEEP_EVERYTHING = 0.1, 1.0
"""Seconds for which an answer is given to everybody who asks."""
_SHOWN = 3
"""Runs under way that are told of, of the newest `_LOOKED_AT`."""
_LOOKED_AT = 20


@dataclass(frozen=True)
class News:
    """What a page shows of something that goes on."""

    what: str
    """Changes with everything but what the other two say: then the page is to be drawn anew."""
    text: str = ""
    """What is going on, one line for each."""
    share: float | None = None
    """How much of it is done, 0 to 1."""


_served = False
_lock = threading.Lock()
_answers: dict[str, tuple[float, News]] = {}


def route() -> Route:
    """For the server: where the question is asked. Calling it says that this server answers it."""
    global _served
    _served = True
    return Route(f"/{_PATH}", _answer)


def told() -> bool:
    """Whether this server answers the question; otherwise a page has to draw itself again and again."""
    return _served and not st.get_option("server.baseUrlPath")  # the route has no such prefix: asking would be in vain


def address(run: RunDirectory) -> str:
    """Where to ask for a run's news, relative to the dashboard's address; empty where this server does not answer."""
    return f"{_PATH}?run={run.name}" if told() and run.path.parent == paths.runs_root() else ""


def of_run(run: RunDirectory) -> News:
    """Snapshots and states, of its control as well; and what it is doing."""
    control = run.control
    parts = [run, *([control] if control else [])]
    states = [part.status() for part in parts]
    what = " ".join(f"{part.n_snapshots()} {status.state}" for part, status in zip(parts, states))
    for status, name in zip(states, ("", "Control run: ")):
        if status.active:
            text = f"{name}{status.message} · {status.seconds:.0f} s"
            return News(what, text, min(status.step / run.config.steps, 1.0))
    return News(f"{what} due", "Control run: starting", 0.0) if run.control_is_due() else News(what)


def of_everything() -> News:
    """The queue's entries and their places; and what the runs under way are doing."""
    try:
        what = " ".join(f"{entry.number}:{entry.place}:{entry.state}" for entry in queue.entries())
    except PalimpsestError as error:  # the page says so
        what = str(error)
    found = [(run.name, run.status()) for run in runs.list_runs()[:_LOOKED_AT]]
    lines = [f"{name}: {status.message or status.state}" for name, status in found if status.active]
    return News(what, "\n".join(lines[:_SHOWN]))


def _answer(request: Request) -> Response:
    if "all" in request.query_params:
        return _kept("", _KEEP_EVERYTHING, _looked_after)
    name = request.query_params.get("run", "")
    try:
        if name in ("", ".", "..") or name != Path(name).name:
            raise RunError(f"“{name}” is no run's name.")
        return _kept(name, _KEEP_RUN, lambda: of_run(RunDirectory(paths.runs_root() / name)))
    except (RunError, OSError):  # whatever is wrong with it, the page says what
        return JSONResponse("There is no such run, or it cannot be read.", 404)


def _looked_after() -> News:
    """News of everything; whoever looks also notices a worker that died, and has the next one started."""
    queue.tend()
    return of_everything()


def _kept(name: str, seconds: float, find: Callable[[], News]) -> Response:
    now = time.monotonic()
    with _lock:
        at, found = _answers.get(name, (0.0, None))
        if found is None or now - at >= seconds:
            found = find()
            _answers[name] = (now, found)
    return JSONResponse(asdict(found), headers={"Cache-Control": "no-store"})
