"""The command line as a user calls it: results on stdout, errors in one line with exit code 2, nothing half-written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer.testing

from analysis import concepts, models, saliency
from analysis.cli import app, main
from analysis.cli import saliency as saliency_command
from analysis.concepts import dump_jsonl
from analysis.errors import PalimpsestError
from analysis.models import catalog

runner = typer.testing.CliRunner()


def _json(*arguments: str) -> dict:
    result = runner.invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.strip().splitlines()[-1])


@pytest.fixture
def concept_file(tiny_concept, tmp_path: Path) -> Path:
    path = tmp_path / "tiny-capitals.jsonl"
    path.write_text(dump_jsonl(tiny_concept))
    return path


def test_the_command_line_starts_without_the_heavy_libraries():
    script = (
        "import sys, analysis.cli; print(*{'torch', 'transformers', 'transformer_lens', 'pandas'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, timeout=60)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_models_lists_the_catalog():
    listed = _json("models")["models"]
    assert [row["name"] for row in listed] == [entry.name for entry in catalog.CATALOG]
    assert all(row["licence"] and row["good_for"] and row["size"] > 0 for row in listed)


def test_concepts_lists_the_built_in_ones():
    listed = {row["name"]: row for row in _json("concepts")["concepts"]}
    assert listed["capitals"]["facts"] >= 50
    assert 0 < listed["capitals"]["held_out"] < listed["capitals"]["facts"]


def test_saliency_writes_the_promised_table(tiny_folder, tiny_concept, concept_file, tmp_path: Path):
    out = tmp_path / "scores.parquet"
    printed = _json(
        "saliency", "--model", str(tiny_folder), "--concept", str(concept_file), "--method", "probeless",
        "--out", str(out), "--device", "cpu",
    )  # fmt: skip
    table = pd.read_parquet(out)
    assert {"layer", "neuron", "score", "rank"} <= set(table.columns)
    assert len(table) == printed["layers"] * printed["neurons"] == 3 * 48
    model = models.load(str(tiny_folder), device="cpu")
    (direct,) = saliency.measure(model, [tiny_concept])
    assert np.allclose(table["score"].to_numpy().reshape(3, 48), direct.scores_LN, rtol=1e-6)
    best = table.sort_values("rank").iloc[0]
    assert printed["top"][0]["neuron"] == f"L{int(best.layer)}.N{int(best.neuron)}"
    assert best.score == table["score"].max()


def test_units_that_were_not_ablated_have_no_effect_in_the_line(tiny_folder: Path, concept_file: Path, monkeypatch):
    """JSON has no NaN. (The tiny model knows no fact, so the effects are made up.)"""

    def ablated(model, concept, result, count, report):
        effects = np.full(result.scores_LN.size, np.nan)
        effects[result.order[:count]] = 0.5
        return effects

    monkeypatch.setattr(saliency_command, "_ablated", ablated)
    top = _json(
        "saliency", "--model", str(tiny_folder), "--concept", str(concept_file), "--ablate", "3", "--top", "5",
        "--device", "cpu",
    )["top"]  # fmt: skip
    assert [one["ablation_effect"] is None for one in top] == [False] * 3 + [True] * 2


def test_relearn_ends_with_one_json_line(tiny_folder, concept_file, tmp_path: Path):
    arguments = [
        "relearn", "--model", str(tiny_folder), "--concept", str(concept_file), "--prune-top", "0.05", "--steps", "2",
        "--batch-size", "4", "--known-threshold", "0", "--device", "cpu", "--seed", "1", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    printed = _json(*arguments)
    expected = {"base", "edited", "final", "center_of_mass", "half_life_steps", "steps", "snapshots", "seconds"}
    assert expected <= set(printed)
    assert printed["edited_neurons"] == round(0.05 * 3 * 48)
    assert printed["control"]["final"]["neutral_loss"] > 0
    assert _json("show", str(tmp_path / "run"))["final"] == printed["final"]
    assert [row["name"] for row in _json("runs", "--root", str(tmp_path))["runs"]] == ["run"]
    again = runner.invoke(app, arguments)
    assert isinstance(again.exception, PalimpsestError)
    assert "not empty" in str(again.exception)


def test_relearn_takes_heads_and_mlp_layers(tiny_folder, concept_file, tmp_path: Path):
    arguments = [
        "relearn", "--model", str(tiny_folder), "--concept", str(concept_file), "--prune", "L1.MLP, L0.H3",
        "--train-only", "L2.MLP, L1.H0", "--steps", "1", "--batch-size", "4", "--known-threshold", "0", "--device", "cpu",
        "--no-control", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    printed = _json(*arguments)
    assert (printed["edited_neurons"], printed["edited_heads"]) == (48, 1)
    assert printed["edit"] == "prune (zero, held): L1.MLP, L0.H3"
    assert printed["train_only"] == "L2.MLP, L1.H0"
    shown = runner.invoke(app, ["show", str(tmp_path / "run")])
    assert "training only L2.MLP, L1.H0" in shown.stdout


BAD_INPUT = [
    (["saliency", "--model", "smolm2"], "Did you mean"),
    (["saliency", "--concept", "capitls"], "Did you mean"),
    (["saliency", "--method", "magic"], "no saliency method"),
    (["saliency", "--out", "/no/such/folder/x.parquet"], "does not exist"),
    (["relearn", "--prune-top", "1.5"], "at most 1"),
    (["relearn", "--prune-top", "0.1", "--reverse-top", "0.1"], "not several"),
    (["relearn", "--steps", "0"], "steps is 0"),
    (["relearn", "--prune", ""], "empty"),
    (["relearn", "--prune", "L5.MLP, everything"], "“everything” is no component"),
    (["relearn", "--train-only", "all"], "“all” is no component"),
    (["relearn", "--pick", "best"], "control is 'best'"),
    (["relearn", "--fill", "ones"], "fill is 'ones'"),
    (["relearn", "--model", "/no/such/model"], "neither a folder"),
    (["relearn", "--concept", "/no/such/file.jsonl"], "cannot be read"),
    (["relearn", "--learning-rate", "nan"], "learning_rate"),
    (["show", "nothing"], "no run"),
    (["runs", "--root", "/no/such/folder"], "not a folder"),
    (["fetch", "nonsense"], "not a model of the catalog"),
    (["--no-such-option"], "No such option"),
    (["relearn", "--steps", "many"], "Invalid value"),
]
IN_A_PROCESS_OF_ITS_OWN = [
    (["saliency", "--concept", "capitls"], "Did you mean"),
    (["relearn", "--steps", "0"], "steps is 0"),
    (["runs", "--root", "/no/such/folder"], "not a folder"),
    (["--no-such-option"], "No such option"),
]
"""Every way an error takes, with the imports of a fresh interpreter, which take seconds."""


def assert_one_line(stderr: str, says: str, home: Path) -> None:
    assert says in " ".join(stderr.split())
    assert stderr.splitlines()[-1].startswith("Error: ")  # a bar of progress may come before
    assert "Traceback" not in stderr
    assert not (home / "runs").exists() or list((home / "runs").iterdir()) == []


@pytest.mark.parametrize(("arguments", "says"), BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, empty_home: Path, monkeypatch, capsys, unchecked_types
):
    monkeypatch.setattr(sys, "argv", ["python -m analysis", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    printed = capsys.readouterr()
    assert (left.value.code, printed.out) == (2, "")
    assert_one_line(printed.err, says, empty_home)


@pytest.mark.parametrize(("arguments", "says"), IN_A_PROCESS_OF_ITS_OWN)
def test_bad_input_in_a_process_of_its_own(arguments: list[str], says: str, empty_home: Path):
    command = [sys.executable, "-m", "analysis", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120)
    assert (result.returncode, result.stdout) == (2, "")
    assert_one_line(result.stderr, says, empty_home)


def test_a_bad_row_of_a_concept_names_its_line(tmp_path: Path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"type":"concept","name":"bad","title":"Bad"}\n{"type":"sentence","text":"A b","spans":[[0,9]]}\n')
    result = runner.invoke(app, ["saliency", "--concept", str(path)])
    assert "line 2" in str(result.exception)


def test_the_library_of_concepts_is_untouched_by_the_command_line(empty_home: Path):
    _json("concepts")
    assert concepts.available() == list(concepts.BUILT_IN)
    assert list(empty_home.iterdir()) == []
