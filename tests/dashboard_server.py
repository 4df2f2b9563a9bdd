"""A dashboard of its own for tests in a browser."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

__all__ = ["served"]

_ROOT = Path(__file__).parents[1]


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The address of a dashboard with this home folder, on a free port, up when it is given."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
        cwd=_ROOT,
        env={**os.environ, "PALIMPSEST_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)
        _end_workers(home)


def _end_workers(home: Path) -> None:
    """End the workers of this home folder: they outlive the dashboard, and a run that goes on would slow later tests."""
    workers = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "analysis.worker" in process.cmdline() and process.environ().get("PALIMPSEST_HOME") == str(home):
                process.kill()
                workers.append(process)
    psutil.wait_procs(workers, timeout=20)
