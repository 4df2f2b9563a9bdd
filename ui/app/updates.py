"""What is new of runs and of the queue: a question that pages ask often, and that is answered without drawing anything.

    GET /news?run=NAME     a run that is followed
    GET /news?all          the runs under way, and the queue

The answer is JSON, {"what", "text", "share"}: see `News`. A line on the page asks (`ui.app.live_line`). With `seen=WHAT` and
`hold=SECONDS` the answer is held back until there is another `what`, or for so long: who asks so hears of a snapshot at once,
and asks seldom.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from analysis import paths, runs
from analysis.errors import PalimpsestError, RunError
from analysis.jobs import JobStatus, queue
from analysis.runs import RunDirectory

__all__ = ["EVERYTHING", "Update", "address", "of_everything", "of_run", "progress_text", "route", "told"]

_PATH = "news"
EVERYTHING = f"{_PATH}?all"
"""Where to ask for all runs under way and the queue."""
_KEEP_RUN, _KEEP_EVERYTHING = 0.15, 1.0
"""Seconds for which an answer is given to everybody who asks."""
_LOOK_AGAIN = 0.2
"""Seconds, while an answer is held back."""
_HOLD_AT_MOST = 10.0
_SHOWN = 3
"""Runs under way that are told of, of the newest `_LOOKED_AT`."""
_LOOKED_AT = 20


@dataclass(frozen=True)
class Update:
    """What a page shows of something that goes on."""

    what: str
    """Changes with everything but what the other two say: then the page is to be drawn anew."""
    text: str = ""
    """What is going on, one line for each."""
    share: float | None = None
    """How much of it is done, 0 to 1; None of a run at which nobody works."""


_served = False
_lock = threading.Lock()
_answers: dict[str, tuple[float, Update]] = {}


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


def of_run(run: RunDirectory) -> Update:
    """Snapshots and states, of its control as well; and what it is doing."""
    control = run.control
    parts = [run, *([control] if control else [])]
    what = " ".join(f"{part.n_snapshots()} {part.status().state}" for part in parts)
    if (status := _at_work(run)) is None:
        return Update(what)
    due = " due" if run.control_is_due() else ""
    return Update(what + due, progress_text(status), min(status.step / run.config.steps, 1.0))


def progress_text(status: JobStatus, message: str = "") -> str:
    """What a job is at, and for how long, once it has begun."""
    message = message or status.message or status.state
    return f"{message} · {status.seconds:.0f} s" if status.seconds else message


def _at_work(run: RunDirectory) -> JobStatus | None:
    """The status of what is under way of a run: itself, or its control; None where nothing is."""
    status, control = run.status(), run.control
    if status.active:
        return status
    if control is not None and (status := control.status()).active:
        return replace(status, message=f"Control run: {status.message or status.state}")
    return JobStatus(state="starting", message="Control run: starting") if run.control_is_due() else None


def of_everything() -> Update:
    """The queue's entries and their places; and what the runs under way are doing."""
    try:
        what = " ".join(f"{entry.number}:{entry.place}:{entry.state}" for entry in queue.entries())
    except PalimpsestError as error:  # the page says so
        what = str(error)
    found = [(run.name, _doing(run)) for run in runs.list_runs()[:_LOOKED_AT]]
    lines = [f"{name}: {text}" for name, text in found if text]
    return Update(what, "\n".join(lines[:_SHOWN]))


def _doing(run: RunDirectory) -> str:
    try:
        status = _at_work(run)
        return (status.message or status.state) if status is not None else ""
    except (PalimpsestError, OSError):  # damaged, or just deleted
        return ""


async def _answer(request: Request) -> Response:
    asked = request.query_params
    name, seconds, find = "?all", _KEEP_EVERYTHING, _looked_after
    if "all" not in asked:
        name, seconds, find = asked.get("run", ""), _KEEP_RUN, partial(_of_run_named, asked.get("run", ""))
    until = time.monotonic() + _seconds(asked.get("hold", ""))
    try:
        found = await _current(name, seconds, find)
        while found.what == asked.get("seen") and time.monotonic() < until:
            await asyncio.sleep(_LOOK_AGAIN)
            found = await _current(name, seconds, find)
    except (PalimpsestError, OSError):  # whatever is wrong with it, the page says what
        return JSONResponse("There is no such run, or it cannot be read.", 404)
    return JSONResponse(asdict(found), headers={"Cache-Control": "no-store"})


def _of_run_named(name: str) -> Update:
    if name in ("", ".", "..") or name != Path(name).name:
        raise RunError(f"“{name}” is no run's name.")
    return of_run(RunDirectory(paths.runs_root() / name))


def _looked_after() -> Update:
    """News of everything; whoever looks also notices a worker that died, and has the next one started."""
    queue.tend()
    return of_everything()


def _seconds(text: str) -> float:
    """How long to hold back the answer, as asked for."""
    try:
        return min(max(float(text), 0.0), _HOLD_AT_MOST)
    except ValueError:
        return 0.0


async def _current(name: str, seconds: float, find: Callable[[], Update]) -> Update:
    at, found = _answers.get(name, (0.0, None))
    if found is not None and time.monotonic() - at < seconds:
        return found
    return await run_in_threadpool(_look, name, seconds, find)


def _look(name: str, seconds: float, find: Callable[[], Update]) -> Update:
    with _lock:  # of those who ask at once, one looks
        at, found = _answers.get(name, (0.0, None))
        if found is None or time.monotonic() - at >= seconds:
            found = find()
            _answers[name] = (time.monotonic(), found)
    return found
