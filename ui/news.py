"""Whether there is anything new to show of a run: a question that a page asks often, and that is answered without running it.

`GET /news?run=NAME` gives a short text that changes whenever the run is to be drawn anew. The migration view asks a few
times a second, and has itself drawn when the answer is not what it shows: drawing costs the browser 50 ms (docs/benchmarks.md).
"""

import threading
import time
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from analysis import paths
from analysis.errors import RunError
from analysis.runs import RunDirectory

__all__ = ["address", "latest", "route"]

_PATH = "news"
_KEEP_SECONDS = 0.1
"""An answer is given to everybody who asks within so long."""

_served = False
_lock = threading.Lock()
_answers: dict[str, tuple[float, str]] = {}


def route() -> Route:
    """For the server: where the question is asked. Calling it says that this server answers it."""
    global _served
    _served = True
    return Route(f"/{_PATH}", _answer)


def address(run: RunDirectory) -> str:
    """Where to ask for a run's news, relative to the dashboard's address; empty where this server does not answer."""
    at_root = not st.get_option("server.baseUrlPath")  # the route has no such prefix, and the browser would ask in vain
    in_home = run.path.parent == paths.runs_root()
    return f"{_PATH}?run={run.name}" if _served and at_root and in_home else ""


def latest(run: RunDirectory) -> str:
    """What changes with all that the page shows of a run but the seconds: snapshots and states, of its control as well."""
    parts = [run, *([run.control] if run.control else [])]
    return " ".join(f"{part.n_snapshots()} {part.status().state}" for part in parts)


def _answer(request: Request) -> Response:
    name = request.query_params.get("run", "")
    now = time.monotonic()
    with _lock:
        at, text = _answers.get(name, (0.0, ""))
        if now - at >= _KEEP_SECONDS:
            try:
                if name in ("", ".", "..") or name != Path(name).name:
                    raise RunError(f"“{name}” is no run's name.")
                text = latest(RunDirectory(paths.runs_root() / name))
            except (RunError, OSError):  # whatever is wrong with it, the page says what
                return PlainTextResponse("There is no such run, or it cannot be read.", 404)
            _answers[name] = (now, text)
    return PlainTextResponse(text, headers={"Cache-Control": "no-store"})
