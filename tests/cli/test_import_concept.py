"""`import-concept`: what the Model page's upload does, from the command line."""

import json
from pathlib import Path

import pytest
import typer.testing

from analysis import concepts
from analysis.cli import app
from analysis.errors import ConceptError

runner = typer.testing.CliRunner()


@pytest.fixture
def conll_file(tmp_path: Path) -> Path:
    path = tmp_path / "train.conll"
    path.write_text("In O\nParis B-LOC\n\nAnna B-PER\n")
    return path


def test_a_label_is_chosen_and_the_concept_is_kept(conll_file: Path, empty_home: Path):
    result = runner.invoke(app, ["import-concept", str(conll_file), "--label", "loc", "--json"], catch_exceptions=False)
    printed = json.loads(result.stdout)
    assert Path(printed.pop("path")) == empty_home / "concepts" / "train-loc.jsonl"
    assert printed == {
        "name": "train-loc",
        "title": "train-loc",
        "facts": 0,
        "held_out": 0,
        "sentences": 2,
        "labelled_sentences": 1,
        "description": "Sentences: 2. Names labelled LOC: 1.",
    }
    assert concepts.load("train-loc").sentences[0].spans == ((3, 8),)


def test_a_table_needs_its_templates(tmp_path: Path, empty_home: Path):
    path = tmp_path / "facts.csv"
    path.write_text("subject,answer\nFrance,Paris\nPeru,Lima\n")
    result = runner.invoke(app, ["import-concept", str(path)])
    assert isinstance(result.exception, ConceptError)
    assert "no template column" in str(result.exception)
    options = ["--name", "towns", "--template", "{subject}:", "--template", "Of {subject}:"]
    result = runner.invoke(app, ["import-concept", str(path), *options], catch_exceptions=False)
    assert "Kept “towns”: 2 facts (" in result.stdout
    assert concepts.load("towns").templates == ("{subject}:", "Of {subject}:")


@pytest.mark.parametrize(
    ("options", "says"),
    [([], "several types of label"), (["--label", "X"], "no type “X”"), (["--label", "LOC", "--name", "capitals"], "built in")],
)  # fmt: skip
def test_what_is_wrong_keeps_nothing(conll_file: Path, empty_home: Path, options: list[str], says: str):
    result = runner.invoke(app, ["import-concept", str(conll_file), *options])
    assert isinstance(result.exception, ConceptError)
    assert says in str(result.exception)
    assert list(empty_home.rglob("*.jsonl")) == []


def test_saliency_takes_a_file_and_a_label(tiny_folder: Path, conll_file: Path):
    conll_file.write_text("We O\nsaw O\nParis B-LOC\n\nAnna B-PER\nleft O\nOslo B-LOC\nearly O\n")
    options = ["--model", str(tiny_folder), "--device", "cpu", "--json"]
    arguments = ["saliency", "--concept", str(conll_file), "--label", "LOC", *options]
    result = runner.invoke(app, arguments, catch_exceptions=False)
    assert json.loads(result.stdout.strip().splitlines()[-1])["concept"] == "train-loc"
