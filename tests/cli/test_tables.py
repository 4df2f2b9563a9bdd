"""What the command line prints for people: whole names on a narrow screen, and one line for what cannot be understood."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer.testing
from rich.console import Console

from analysis import runs
from analysis.cli import app, common, models
from analysis.cli import runs as runs_command
from analysis.concepts import Concept
from analysis.models import catalog
from analysis.runs.directory import RunDirectory
from analysis.runs.summary import summarise
from tests.small_runs import small_run

runner = typer.testing.CliRunner()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(empty_home: Path, tiny_folder: Path, tiny_concept: Concept) -> RunDirectory:
    config = small_run(tiny_folder, tiny_concept, steps=2)
    return runs.create_in_home(config, concepts={tiny_concept.name: tiny_concept})


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch):
    """What a command prints on a screen of 80 columns."""

    def of(*arguments: str) -> str:
        for module in (common, models, runs_command):
            console = Console(width=80)  # writes to where the runner looks
            monkeypatch.setattr(module, "stdout", console)
        result = runner.invoke(app, list(arguments), catch_exceptions=False)
        assert all(len(line) <= 80 for line in result.stdout.splitlines())
        return result.stdout

    return of


def column(table: str, number: int) -> str:
    """All that a column of a printed table holds, its lines put together."""
    rows = [line.split("│") for line in table.splitlines() if line.startswith("│")]
    return "".join(row[number].strip() for row in rows)


def test_names_of_models_are_whole(printed):
    assert column(printed("models"), 1) == "".join(entry.name for entry in catalog.CATALOG)


def test_names_of_runs_are_whole(printed, run: RunDirectory):
    table = printed("runs")
    assert run.name in table
    assert column(table, 4).replace(" ", "") == run.created[:16].replace("T", "")
    assert "".join(column(table, 5).split()) == "".join(run.record["title"].split())


@pytest.mark.parametrize("length", [39, 41, 200])
def test_a_long_name_is_never_cut(printed, run: RunDirectory, length: int):
    name = ("a-long-name-" * 20)[:length]
    run.path.rename(run.path.with_name(name))
    assert column(printed("runs"), 1) == name


@pytest.mark.parametrize(
    ("retrained", "held_out", "told"),
    [
        (1.5, None, "half-life: retrained 1.5 steps, held out not reached;"),
        (None, 12.0, "half-life: retrained not reached, held out 12 steps;"),
    ],
)
def test_both_half_lives_are_told_apart(run: RunDirectory, capsys, retrained, held_out, told: str):
    found = summarise(run) | {"half_life_steps": retrained, "half_life_steps_held_out": held_out}
    runs_command.print_summary(found)
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--bogus"], "No such option: --bogus. See `python -m analysis --help`."),
        (
            ["runs", "--rot", "."],
            "No such option: --rot (Possible options: --root). See `python -m analysis runs --help`.",
        ),
        (["nosuch"], "No such command 'nosuch'. See `python -m analysis --help`."),
        (["show"], "Missing argument 'run'. See `python -m analysis show --help`."),
    ],
)
def test_what_cannot_be_understood_is_one_line(arguments: list[str], says: str, empty_home: Path):
    command = [sys.executable, "-m", "analysis", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"Error: {says}\n")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["show", "--help"]])
def test_help_is_no_error(arguments: list[str], empty_home: Path):
    command = [sys.executable, "-m", "analysis", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Usage: python -m analysis" in result.stdout
