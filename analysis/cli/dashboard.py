"""Command that serves the dashboard: `streamlit run` on the app of this checkout or of the installed package."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.common import stderr
from analysis.errors import ConfigError

__all__ = ["app", "folder"]

_PACKAGE = Path(__file__).parents[1]
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STREAMLIT = "import sys; sys.path = list(filter(None, sys.path)); from streamlit.web.cli import main; main(prog_name='streamlit')"
"""Like `-m streamlit`, but without the working directory in `sys.path`, where a script may be called `analysis`. Streamlit
adds the folder of app.py itself."""


def app(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on (default: 8501).", show_default=False)
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on (default: 127.0.0.1, this machine only). There is no password: whoever reaches "
            "another address can use the dashboard.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the dashboard until Ctrl-C."""
    command = [sys.executable, "-c", _STREAMLIT, "run", str(folder() / "app.py")]
    if port is not None:
        command += ["--server.port", str(port)]
    if address is not None:
        command += ["--server.address", address]
        if address not in _LOOPBACK:
            stderr.print(
                f"The dashboard has no password: whoever reaches port {port or 8501} of {address} can use it.",
                soft_wrap=True,
            )
    stderr.file.flush()
    os.execv(sys.executable, command)


def folder() -> Path:
    """The folder of the dashboard's app.py and its `.streamlit/config.toml`.

    Streamlit reads the configuration beside app.py, whatever the working directory, and prefers it to those of the user
    and of the working directory.

    Raises:
        ConfigError: `analysis` was copied somewhere without its dashboard.
    """
    for found in (_PACKAGE / "_dashboard", _PACKAGE.parent):  # in a wheel (hatch_build.py), in a checkout
        if (found / "app.py").is_file() and (found / "ui").is_dir():
            return found
    raise ConfigError(
        f"There is no dashboard beside {_PACKAGE}. Install Palimpsest with `pip install .` in a clone of it."
    )
