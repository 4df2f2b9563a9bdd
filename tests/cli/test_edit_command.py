"""`edit` and `edits` as a user calls them."""

import json
import re
from pathlib import Path

import pytest
import typer.testing

from analysis.cli import app
from analysis.cli import edit as edit_command
from analysis.concepts import Concept, dump_jsonl
from analysis.edits import METHODS, from_settings
from analysis.edits.recipe import Recipe
from analysis.errors import ConfigError, EditError, PalimpsestError

runner = typer.testing.CliRunner()
SCORES = {"forget", "paraphrase", "multiple_choice", "labelled_words", "neighbours", "neutral_perplexity"}


def _json(*arguments: str) -> dict:
    result = runner.invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.strip().splitlines()[-1])


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_HOME", str(tmp_path / "home"))


@pytest.fixture
def request_(tiny_folder: Path, tiny_concept: Concept, tmp_path: Path) -> list[str]:
    """The options that every call needs; the tiny model knows nothing, so everything counts as known."""
    path = tmp_path / "tiny-capitals.jsonl"
    path.write_text(dump_jsonl(tiny_concept))
    return [
        "edit", "--model", str(tiny_folder), "--concept", str(path), "--known-threshold", "0", "--device", "cpu",
    ]  # fmt: skip


def test_the_methods_are_listed_with_their_settings():
    listed = {row["name"]: row for row in _json("edits")["methods"]}
    assert {"prune", "mean_ablate", "reverse", "gradient_ascent", "npo", "rmu", "llm_surgery"} <= listed.keys()
    settings = {one["name"]: one for one in listed["npo"]["settings"]}
    assert settings["steps"]["type"] == "int"
    assert settings["beta"]["help"]
    assert all(row["summary"] and row["source"] for row in listed.values())
    shown = runner.invoke(app, ["edits"], catch_exceptions=False)
    assert "--top-fraction" in shown.stdout
    assert not re.search(r"[A-Z_]{3,}\[", shown.stdout)  # names of the source code say nothing to a user


def test_presets_can_be_typed_as_they_are_printed():
    shown = runner.invoke(app, ["edits"], catch_exceptions=False, env={"COLUMNS": "1000"}).stdout
    printed = dict(re.findall(r"^ *([^:\n]+: [^:\n]+): (--.*)$", shown, re.MULTILINE))
    presets = {name: (method, values) for method in METHODS.values() for name, values in method.presets.items()}
    assert presets
    for name, (method, values) in presets.items():
        needed = {"fact": "a"} if method.name == "tars" else {}
        typed = edit_command._settings(printed[name].split())
        assert from_settings(method.name, typed | needed) == from_settings(method.name, {**values, **needed})
    for text in ("(-1, -1)", "-1,-1", "[-1, -1]"):
        assert from_settings("tars", {"layers": text, "fact": "a"}).to_dict()["layers"] == (-1, -1)
    assert from_settings("tars", {"layers": "None", "fact": "a"}).to_dict()["layers"] is None


def test_an_edit_ends_with_the_promised_line(request_: list[str], tmp_path: Path):
    out = tmp_path / "op"
    line = _json(*request_, "--method", "prune", "--top-fraction", "0.3", "--out", str(out), "--export")
    assert line.keys() >= {"before", "after", "kl", "edited_parameters", "seconds"}
    assert line["before"].keys() == line["after"].keys() == SCORES
    assert line["kl"].keys() == {"median", "mean", "p95", "n_tokens"}
    assert line["kl"]["p95"] >= line["kl"]["median"] > 0
    assert line["edited_parameters"] == round(0.3 * 3 * 48) * 3 * 32
    assert {path.name for path in out.iterdir()} >= {
        "recipe.json",
        "edits",
        "evaluation.json",
        "evaluation.csv",
        "model",
    }

    again = _json(*request_, "--recipe", str(out / "recipe.json"), "--out", str(tmp_path / "again"))
    assert {**again, "seconds": 0, "out": ""} == {**line, "seconds": 0, "out": ""}
    assert Recipe.load(tmp_path / "again" / "recipe.json") == Recipe.load(out / "recipe.json")


def test_a_gradient_edit_with_its_settings(request_: list[str], tmp_path: Path):
    line = _json(
        *request_, "--method", "unlearn", "--steps=2", "--batch-size", "2", "--only", "L1.MLP", "--seed", "3",
        "--out", str(tmp_path / "op"),
    )  # fmt: skip
    (step,) = Recipe.load(tmp_path / "op" / "recipe.json").steps
    assert (step.edit.to_dict()["steps"], step.edit.to_dict()["seed"], step.edit.to_dict()["only"]) == (2, 3, "L1.MLP")
    assert 0 < line["edited_parameters"] <= 3 * 48 * 32


BAD = {
    "an unknown method": (["--method", "erase"], ConfigError, "not a method"),
    "an unknown setting": (["--strength", "3"], ConfigError, "no setting “strength”"),
    "a value that does not fit": (["--top-k", "many"], ConfigError, "top_k"),
    "a share above one": (["--top-fraction", "1.5"], ConfigError, "share of neurons"),
    "a stray word": (["prune"], ConfigError, "is not an option"),
    "two rules": (["--top-k", "3", "--top-fraction", "0.1"], ConfigError, "Give one of"),
    "a missing recipe": (["--recipe", "none.json"], ConfigError, "cannot be read"),
    "a recipe and a method": (["--recipe", "none.json", "--method", "prune"], ConfigError, "Leave out --method"),
    "an unknown part": (["--evaluate", "forget,beauty"], ConfigError, "not a part of an evaluation"),
    "a component it does not have": (["--components", "L9.N1"], EditError, "outside the model"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD)
def test_bad_requests(
    request_: list[str], tmp_path: Path, arguments: list[str], error: type[PalimpsestError], message: str
):
    with pytest.raises(error, match=message):
        runner.invoke(app, [*request_, "--out", str(tmp_path / "op"), *arguments], catch_exceptions=False)
