"""What a page is told of a run between two drawings."""

from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.requests import Request

from analysis import concepts, running, runs
from analysis.concepts import Concept
from analysis.runs import RunDirectory
from tests.made_up import small_run
from ui import news


@pytest.fixture
def run(tiny_folder: Path, tiny_concept: Concept, empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run that was made and has not begun."""
    monkeypatch.setattr(news, "_answers", {})
    monkeypatch.setattr(news, "_served", False)
    monkeypatch.setattr(news, "_KEEP_SECONDS", 0.0)
    concepts.save(tiny_concept)
    return runs.create_in_home(small_run(tiny_folder, tiny_concept, steps=2, control=True))


@pytest.fixture
def ask() -> Callable[[str], tuple[int, str]]:
    def asked(name: str) -> tuple[int, str]:
        response = news._answer(Request({"type": "http", "query_string": f"run={name}".encode(), "headers": []}))
        return response.status_code, bytes(response.body).decode()

    return asked


def test_the_answer_changes_with_snapshots_states_and_the_control(run: RunDirectory, ask):
    before = ask(run.name)
    running.carry_out(run)
    after = ask(run.name)
    assert before == (200, "0 starting")
    assert run.control is not None
    assert after == (200, f"{run.n_snapshots()} finished {run.control.n_snapshots()} finished")
    assert after == (200, news.latest(run))
    (run.path / "snapshots" / f"{run.n_snapshots() - 1:06d}.safetensors").unlink()
    assert ask(run.name)[1] != after[1]


@pytest.mark.parametrize("name", ["", "none", ".", "..", "../runs", "/etc", "a/b", "%2e%2e", "n" * 300])
def test_what_is_no_run_in_the_home_folder_is_not_answered(run: RunDirectory, ask, name: str):
    (run.path.parent.parent / "config.json").write_text("{}")
    assert ask(name) == (404, "There is no such run, or it cannot be read.")


def test_a_run_that_cannot_be_read_is_not_answered(run: RunDirectory, ask):
    (run.path / "status.json").mkdir()
    assert ask(run.name)[0] == 404


def test_there_is_an_address_only_where_the_server_answers(run: RunDirectory, tmp_path: Path):
    assert news.address(run) == ""
    route = news.route()
    assert news.address(run) == f"news?run={run.name}"
    assert route.path == "/news"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.json").write_text("{}")
    assert news.address(RunDirectory(elsewhere)) == ""


def test_everybody_who_asks_at_once_gets_one_answer(run: RunDirectory, ask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(news, "_KEEP_SECONDS", 60.0)
    before = ask(run.name)
    (run.path / "snapshots").mkdir()
    (run.path / "snapshots" / "000000.safetensors").touch()
    assert ask(run.name) == before
    monkeypatch.setattr(news, "_KEEP_SECONDS", 0.0)
    assert ask(run.name) != before
