"""Answers a small HTTP request with what is new about runs and the queue, so that pages need not redraw to find out.

    GET /updates?run=NAME     one run
    GET /updates?all          the runs under way, and the queue

The answer is JSON, {"version", "text", "progress"}: see `Update`. A line on the page sends the requests
(`ui.app.live_line`). With `seen=VERSION` and `hold=SECONDS` the answer is delayed until the version changes, for at most
that long. So the page learns of a snapshot at once and sends few requests.
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

__all__ = ["OVERVIEW_ADDRESS", "Update", "is_served", "overview", "progress_text", "route", "run_address", "run_update"]

_PATH = "updates"
OVERVIEW_ADDRESS = f"{_PATH}?all"
"""Address of the update about all runs under way and the queue."""
_CACHE_RUN, _CACHE_OVERVIEW = 0.15, 1.0
"""Seconds for which an answer is cached and given to all requests."""
_CHECK_SECONDS = 0.2
"""Seconds between two checks while an answer is held back."""
_MAX_HOLD = 10.0
_MAX_LINES = 3
"""Runs under way that the overview lists, among the `_MAX_CHECKED` newest runs."""
_MAX_CHECKED = 20


@dataclass(frozen=True)
class Update:
    """The state of something that is under way, as a page shows it."""

    version: str
    """Changes whenever the page has to be drawn anew; a change of `text` or `progress` alone does not change it."""
    text: str = ""
    """What is under way, one line for each."""
    progress: float | None = None
    """How much is done, 0 to 1; None if nothing is under way, and in an overview."""


_served = False
_lock = threading.Lock()
_answers: dict[str, tuple[float, Update]] = {}


def route() -> Route:
    """The route for the server; calling it also records that this server answers the requests."""
    global _served
    _served = True
    return Route(f"/{_PATH}", _answer)


def is_served() -> bool:
    """Whether this server answers the requests; if not, a page has to redraw itself at intervals."""
    return _served and not st.get_option("server.baseUrlPath")  # the route does not have such a prefix


def run_address(run: RunDirectory) -> str:
    """Address of a run's updates, relative to the dashboard's; empty if this server does not answer."""
    return f"{_PATH}?run={run.name}" if is_served() and run.path.parent == paths.runs_root() else ""


def run_update(run: RunDirectory) -> Update:
    """Snapshots and state of a run and its control, and what is being done."""
    control = run.control
    parts = [run, *([control] if control else [])]
    version = " ".join(f"{part.n_snapshots()} {part.status().state}" for part in parts)
    if (status := _active_status(run)) is None:
        return Update(version)
    due = " due" if run.control_is_due() else ""
    return Update(version + due, progress_text(status), min(status.step / run.config.steps, 1.0))


def progress_text(status: JobStatus, message: str = "") -> str:
    """What a job is doing, and for how long once it has started."""
    message = message or status.message or status.state
    return f"{message} · {status.seconds:.0f} s" if status.seconds else message


def _active_status(run: RunDirectory) -> JobStatus | None:
    """The status of the run if it is active, or else of its control; None if neither is."""
    status, control = run.status(), run.control
    if status.active:
        return status
    if control is not None and (status := control.status()).active:
        return replace(status, message=f"Control run: {status.message or status.state}")
    return JobStatus(state="starting", message="Control run: starting") if run.control_is_due() else None


def overview() -> Update:
    """The queue's entries with their places, and what the runs under way are doing."""
    try:
        version = " ".join(f"{entry.number}:{entry.place}:{entry.state}" for entry in queue.entries())
    except PalimpsestError as error:  # the page shows the message
        version = str(error)
    found = [(run.name, _activity(run)) for run in runs.list_runs()[:_MAX_CHECKED]]
    lines = [f"{name}: {text}" for name, text in found if text]
    return Update(version, "\n".join(lines[:_MAX_LINES]))


def _activity(run: RunDirectory) -> str:
    try:
        status = _active_status(run)
        return (status.message or status.state) if status is not None else ""
    except (PalimpsestError, OSError):  # damaged, or just deleted
        return ""


async def _answer(request: Request) -> Response:
    query = request.query_params
    name, max_age, find = "?all", _CACHE_OVERVIEW, _tended_overview
    if "all" not in query:
        name, max_age, find = query.get("run", ""), _CACHE_RUN, partial(_named_run_update, query.get("run", ""))
    until = time.monotonic() + _seconds(query.get("hold", ""))
    try:
        found = await _current(name, max_age, find)
        while found.version == query.get("seen") and time.monotonic() < until:
            await asyncio.sleep(_CHECK_SECONDS)
            found = await _current(name, max_age, find)
    except (PalimpsestError, OSError):  # the page shows the message
        return JSONResponse("There is no such run, or it cannot be read.", 404)
    return JSONResponse(asdict(found), headers={"Cache-Control": "no-store"})


def _named_run_update(name: str) -> Update:
    if name in ("", ".", "..") or name != Path(name).name:
        raise RunError(f"“{name}” is not the name of a run.")
    return run_update(RunDirectory(paths.runs_root() / name))


def _tended_overview() -> Update:
    """The overview, after `queue.tend` has handled workers that died."""
    queue.tend()
    return overview()


def _seconds(text: str) -> float:
    """How long to hold the answer back, as the request asks."""
    try:
        return min(max(float(text), 0.0), _MAX_HOLD)
    except ValueError:
        return 0.0


async def _current(name: str, max_age: float, find: Callable[[], Update]) -> Update:
    """The update of this name, from the cache if it is younger than `max_age` seconds."""
    at, found = _answers.get(name, (0.0, None))
    if found is not None and time.monotonic() - at < max_age:
        return found
    return await run_in_threadpool(_find, name, max_age, find)


def _find(name: str, max_age: float, find: Callable[[], Update]) -> Update:
    with _lock:  # of simultaneous requests, only one reads files
        at, found = _answers.get(name, (0.0, None))
        if found is None or time.monotonic() - at >= max_age:
            found = find()
            _answers[name] = (time.monotonic(), found)
    return found
