"""The command that serves the dashboard: which app, with which of Streamlit's options."""

import os
import sys
from pathlib import Path

import pytest

from analysis.cli import dashboard, main
from analysis.errors import ConfigError

ROOT = Path(__file__).parents[2]


class Replaced(Exception):
    """This process would be another program now."""


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments with which Streamlit was started."""
    given: list[str] = []

    def replace(program: str, command: list[str]) -> None:
        assert program == command[0] == sys.executable
        assert command[1] == "-c"
        given.extend(command[3:])
        raise Replaced

    monkeypatch.setattr(os, "execv", replace)
    return given


def _call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["palimpsest", "app", *words])
    with pytest.raises(Replaced):
        main()


def test_a_checkout_serves_its_own_dashboard_as_its_configuration_says(arguments, monkeypatch, capsys):
    _call(monkeypatch)
    assert arguments == ["run", str(ROOT / "app.py")]
    assert (dashboard.folder() / ".streamlit" / "config.toml").is_file()
    assert capsys.readouterr().err == ""


def test_port_and_address_are_passed_on(arguments, monkeypatch, capsys):
    _call(monkeypatch, "--port", "8600", "--address", "localhost")
    assert arguments[2:] == ["--server.port", "8600", "--server.address", "localhost"]
    assert capsys.readouterr().err == ""


def test_whoever_opens_the_dashboard_to_others_is_told_so(arguments, monkeypatch, capsys):
    _call(monkeypatch, "--address", "0.0.0.0")
    assert arguments[2:] == ["--server.address", "0.0.0.0"]
    assert "no password: whoever reaches port 8501 of 0.0.0.0 can use it" in capsys.readouterr().err


def test_a_library_without_its_dashboard_says_so(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(dashboard, "_PACKAGE", tmp_path / "analysis")
    with pytest.raises(ConfigError, match=r"no dashboard beside .*pip install"):
        dashboard.folder()
