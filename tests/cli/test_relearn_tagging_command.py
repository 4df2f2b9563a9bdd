"""The paper's protocol from the command line: fine-tune, prune, retrain by epochs, and a line of JSON with F1 by stage."""

import json
from pathlib import Path

import pytest
import typer.testing

from analysis import runs
from analysis.cli import app
from analysis.concepts import Concept, dump_jsonl
from analysis.errors import ConceptError, ConfigError
from analysis.scoring import tagging

runner = typer.testing.CliRunner()


@pytest.fixture
def request_(tiny_folder: Path, tiny_concept: Concept, tmp_path: Path) -> list[str]:
    path = tmp_path / "tiny-capitals.jsonl"
    path.write_text(dump_jsonl(tiny_concept))
    return [
        "relearn", "--model", str(tiny_folder), "--concept", str(path), "--batch-size", "4", "--neutral-share", "0.5",
        "--prune-top", "0.5", "--device", "cpu", "--out", str(tmp_path / "run"),
    ]  # fmt: skip


def test_the_protocol_ends_with_f1_by_stage(request_: list[str], tiny_concept: Concept, tmp_path: Path):
    epochs = ["--task", "tagging", "--fine-tune-epochs", "3", "--epochs", "2"]
    result = runner.invoke(app, [*request_, *epochs, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout.strip().splitlines()[-1])
    train, held_out = tagging.split_sentences(tiny_concept)
    epoch = -(-len(train) // 2)
    found = printed["tagging"]
    assert found["fine_tune_steps"] == 3 * epoch
    assert [(one["stage"], one["step"]) for one in found["stages"]] == [
        ("fine-tuned", 0),
        ("edited", 0),
        ("retrained", epoch),
        ("retrained", 2 * epoch),
    ]
    assert [one["epoch"] for one in found["stages"]] == [0, 0, 1, 2]
    assert all(0 <= one["f1"] <= 1 and 0 <= one["f1_trained"] <= 1 for one in found["stages"])
    assert found["sizes"]["sentences held out, scored"] == len(held_out)
    assert found["sizes"]["labelled words held out, scored"] == sum(len(one.spans) for one in held_out)
    assert len(printed["control"]["stages"]) == 2
    assert printed["seconds"] > 0
    assert (printed["task"], printed["known_facts"]) == ("tagging", None)
    config = runs.find(str(tmp_path / "run")).config
    assert (config.steps, config.cadence, config.snapshot_every) == (2 * epoch, "steps", epoch)
    shown = runner.invoke(app, ["show", str(tmp_path / "run")], catch_exceptions=False)
    assert "fine-tuned" in shown.stdout
    assert f"{found['stages'][-1]['f1']:.3f}" in shown.stdout


def test_steps_instead_of_epochs(request_: list[str], tmp_path: Path):
    chosen = ["--task", "tagging", "--fine-tune-epochs", "1", "--steps", "3", "--snapshot-every", "2", "--no-control"]
    chosen += ["--set", "weight_decay=0.5"]
    result = runner.invoke(app, [*request_, *chosen, "--json"], catch_exceptions=False)
    stages = json.loads(result.stdout.strip().splitlines()[-1])["tagging"]["stages"]
    assert [one["step"] for one in stages] == [0, 0, 2, 3]
    assert runs.find(str(tmp_path / "run")).config.weight_decay == 0.5


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (["--epochs", "2"], ConfigError, "belong to --task tagging"),
        (["--fine-tune-epochs", "2"], ConfigError, "belong to --task tagging"),
        (["--task", "tagging", "--epochs", "2", "--steps", "9"], ConfigError, "not both"),
        (["--task", "tagging", "--fine-tune-epochs", "0"], ConfigError, "fine_tune_steps is 0"),
        (["--task", "tagging", "--epochs", "0"], ConfigError, "steps is 0"),
        (["--task", "ner"], ConfigError, "use facts or tagging"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_bad_requests(request_: list[str], tmp_path: Path, options: list[str], error: type, says: str):
    with pytest.raises(error, match=says):
        runner.invoke(app, [*request_, *options], catch_exceptions=False)
    assert not (tmp_path / "run").exists()


def test_a_concept_without_labelled_words(request_: list[str], tmp_path: Path):
    path = tmp_path / "bare.jsonl"
    path.write_text('{"type": "concept", "name": "bare", "title": "Bare"}\n{"type": "sentence", "text": "It rains."}\n')
    request_[request_.index("--concept") + 1] = str(path)
    with pytest.raises(ConceptError, match="labels too few words"):
        runner.invoke(app, [*request_, "--task", "tagging"], catch_exceptions=False)
