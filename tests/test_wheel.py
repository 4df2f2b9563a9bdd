"""The built wheel, installed into a clean environment: what is in it, what it asks for, and that it works from anywhere.

The dependencies come from the environment that runs the tests, so that nothing is downloaded.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement

from analysis import __version__
from analysis.models import catalog
from tests.requirement_files import requirements

ROOT = Path(__file__).parents[1]
DASHBOARD = ("app.py", "pages", "ui", ".streamlit")


@dataclass(frozen=True)
class Installed:
    """A clean environment with the wheel, and a folder far from the checkout to work in."""

    wheel: Path
    scripts: Path
    site_packages: Path
    elsewhere: Path

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.scripts / command[0], *command[1:]],
            cwd=self.elsewhere,
            env=_environment(self.elsewhere),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str) -> str:
        """What a command prints."""
        process = self.start(*command)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, out + errors
        return out


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "clean", with_pip=False)
    scripts = folder / "clean" / "bin"
    _pip("--python", str(scripts / "python"), "install", "--no-deps", "--no-index", str(wheel))
    (site_packages,) = (folder / "clean").glob("lib/python*/site-packages")
    # Paths named in a .pth file are searched, but .pth files in them are not: no editable install comes along.
    borrowed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site_packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    return Installed(wheel, scripts, site_packages, elsewhere)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def _environment(home: Path) -> dict[str, str]:
    ours = {"PALIMPSEST_HOME": str(home / "home"), "HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STREAMLIT"))} | ours


def test_the_wheel_holds_the_library_and_the_dashboard_and_nothing_else(installed: Installed):
    library = {str(path.relative_to(ROOT)) for path in _files(ROOT / "analysis")}
    dashboard = {f"analysis/_dashboard/{path.relative_to(ROOT)}" for name in DASHBOARD for path in _files(ROOT / name)}
    with zipfile.ZipFile(installed.wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == library | dashboard
    assert {"analysis/models/__init__.pyi", "analysis/concepts/data/capitals.jsonl", "analysis/py.typed"} <= found
    assert {"analysis/_dashboard/app.py", "analysis/_dashboard/.streamlit/config.toml"} <= found


def _files(path: Path) -> Iterator[Path]:
    yield from (
        [path]
        if path.is_file()
        else (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    )


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.13"])
@pytest.mark.parametrize("extra", ["", "dev", "cluster"])
def test_the_wheel_asks_for_what_the_requirements_files_list(installed: Installed, python: str, extra: str):
    with zipfile.ZipFile(installed.wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    listed = requirements("requirements.txt") + (requirements(f"requirements-{extra}.txt") if extra else [])
    asked = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    assert _chosen(asked, python, extra) == _chosen(listed, python, extra)
    assert (metadata["Name"], metadata["Version"]) == ("palimpsest-lm", __version__)
    assert metadata.get_all("Provides-Extra") == ["cluster", "dev"]


def _chosen(among: list[Requirement], python: str, extra: str) -> set[str]:
    environment = {"python_version": python, "extra": extra}
    return {
        f"{one.name.lower().replace('_', '-')}{one.specifier}"
        for one in among
        if one.marker is None or one.marker.evaluate(environment)
    }


def test_the_command_works_from_anywhere(installed: Installed):
    assert installed.run("palimpsest", "--version") == f"palimpsest {__version__}\n"
    assert "Usage: palimpsest [OPTIONS] COMMAND" in installed.run("palimpsest", "--help")
    models = json.loads(installed.run("palimpsest", "models", "--json"))["models"]
    assert [model["name"] for model in models] == [entry.name for entry in catalog.CATALOG]


def test_the_library_is_the_installed_one(installed: Installed):
    script = "import analysis, analysis.jobs as jobs; print(analysis.__file__, jobs.Job.__module__)"  # a stub is read
    file, module = installed.run("python", "-c", script).split()
    assert Path(file) == installed.site_packages / "analysis" / "__init__.py"
    assert module == "analysis.jobs.job"


def test_the_installed_dashboard_answers_on_this_machine_only(installed: Installed):
    """Also in a folder with a configuration of Streamlit that says otherwise, and a script named like the library."""
    (installed.elsewhere / ".streamlit").mkdir()
    (installed.elsewhere / ".streamlit" / "config.toml").write_text('[server]\naddress = "0.0.0.0"\n')
    (installed.elsewhere / "analysis.py").write_text("raise RuntimeError('the wrong one')\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = installed.start("palimpsest", "app", "--port", str(port))
    try:
        assert _answer(process, f"http://127.0.0.1:{port}/_stcore/health") == "ok"
        update = json.loads(
            _answer(process, f"http://127.0.0.1:{port}/updates?all")
        )  # answered by the dashboard's own code
        assert update == {"version": "", "text": "", "progress": None}
        listening = [one.laddr for one in psutil.Process(process.pid).net_connections("tcp") if one.status == "LISTEN"]
        assert [(one.ip, one.port) for one in listening] == [("127.0.0.1", port)]
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert not psutil.pid_exists(process.pid)


def _answer(process: subprocess.Popen[str], url: str) -> str:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.1)
    process.kill()
    pytest.fail("\n".join(process.communicate()))
