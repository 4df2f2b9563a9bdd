"""`resume` and `branch` as a user calls them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import typer.testing

from analysis import runs
from analysis.cli import app
from analysis.cli.run_options import read_settings
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Selection
from analysis.errors import ConfigError, RunError
from analysis.runs import execution
from analysis.runs.directory import RunDirectory
from tests.small_runs import small_run

runner = typer.testing.CliRunner()


@pytest.fixture
def stopped(empty_home: Path, tiny_folder: Path, tiny_concept: Concept) -> RunDirectory:
    """A run of 6 steps that was stopped after its third."""
    config = small_run(tiny_folder, tiny_concept, steps=6, checkpoint_every=2, keep_checkpoints=True)
    run = runs.create(config, empty_home / "runs" / "mine", concepts={tiny_concept.name: tiny_concept})
    execution.execute(run, lambda report: run.request_stop() if report.done == 3 else None)
    assert run.status().state == "stopped"
    return run


def call(*arguments: str) -> dict:
    return json.loads(runner.invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout.splitlines()[-1])


def test_a_stopped_run_goes_on_and_a_finished_one_gets_more(stopped: RunDirectory):
    assert call("resume", "mine")["state"] == "finished"
    assert [event["step"] for event in stopped.events() if event["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(RunError, match="more steps"):
        call("resume", "mine")
    assert call("resume", "mine", "--steps", "8")["state"] == "finished"
    assert stopped.moments()[-1].step == RunDirectory(stopped.path).config.steps == 8


def test_a_branch_begins_at_a_checkpoint_with_another_edit(stopped: RunDirectory, tmp_path: Path):
    with pytest.raises(RunError, match="after 2, 3 steps"):
        call("branch", "mine", "--step", "1")
    out = tmp_path / "second"
    arguments = ["--prune", "L1.N4", "--steps", "2", "--set", "optimiser=sgd", "--set", "learning_rate=1e-3"]
    assert call("branch", "mine", "--step", "2", *arguments, "--out", str(out))["state"] == "finished"
    config = RunDirectory(out).config
    assert config.origin is not None
    assert (config.origin.run, config.origin.step) == ("mine", 2)
    assert config.edit == ComponentEdit(selection=Selection(rule="explicit", components="L1.N4", value=0.01))
    assert config == replace(
        stopped.config, origin=config.origin, edit=config.edit, steps=2, optimiser="sgd", learning_rate=1e-3
    )
    call("branch", str(out), "--steps", "1", "--out", str(tmp_path / "third"))
    third = RunDirectory(tmp_path / "third").config
    assert third.edit is None
    assert third.origin is not None
    assert third.origin.step == 2


def test_settings_are_read_as_json_or_text():
    given = [
        "cadence=log",
        "keep_checkpoints=true",
        "tracking_share=0.2",
        'methods=["probeless"]',
        "pinned=L1.N2, L1.N3",
    ]
    assert read_settings(given) == {
        "cadence": "log",
        "keep_checkpoints": True,
        "tracking_share": 0.2,
        "methods": ("probeless",),
        "pinned": "L1.N2, L1.N3",
    }
    assert read_settings(["text=12", 'device="cpu"', "tracking_share=null"]) == {
        "text": "12",
        "device": "cpu",
        "tracking_share": None,
    }
    for wrong in ("cadence", "no_such=1", "model=other"):
        with pytest.raises(ConfigError, match="is not a setting"):
            read_settings([wrong])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("keep_checkpoints=False", "true or false. Write: --set keep_checkpoints=true or keep_checkpoints=false"),
        ("control=no", "control is 'no'; it must be true or false. Write: --set control=true"),
        ("learning_rate=abc", "must be a number. Write: --set learning_rate=0.5"),
        ("learning_rate=true", "must be a number"),
        ("clip=[1]", "must be a number"),
        ("lora_alpha=Infinity", "must be a number"),
        ("steps=1e20", "must be a whole number. Write: --set steps=10"),
        ("seed=1.0", "must be a whole number"),
        ("track=sports", """a tuple of texts. Write: --set 'track=["a", "b"]'"""),
        ("track=5", "a tuple of texts"),
        ("methods=probeless", """a tuple of texts. Write: --set 'methods=["a", "b"]'"""),
        ("methods=[1]", "a tuple of texts"),
        ("control=" + "[" * 100_000, "true or false"),
    ],
)
def test_a_setting_of_another_type_says_how_it_is_written(given: str, says: str):
    with pytest.raises(ConfigError, match=re.escape(says)):
        read_settings([given])
