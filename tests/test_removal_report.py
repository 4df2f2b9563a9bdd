"""The removal report: finished cells are not measured again, and its tables show the cells that count."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import removal_localized
import removal_tars
from removal_bench import Cells


def cell(circuit: str, seed: int, rate: float, *, p: float, reached: bool, attacked: bool = True) -> dict[str, Any]:
    key = {"part": "localized", "objective": "unlearn", "circuit": circuit, "seed": seed, "learning_rate": rate}
    row = {"key": key | {"kept": 0.9}, "weights": 10, "steps": 25, "reached": reached}
    row |= {"forget": [p] * 2, "paraphrased": [p] * 2, "maintained": [0.4, 0.4], "choice_true": [1.0, 0.0]}
    return row | ({"relearned_held_out": [0.25, 0.75]} if attacked else {})


def unedited(seed: int) -> dict[str, Any]:
    key = {"part": "localized", "objective": "unlearn", "circuit": "unedited", "seed": seed}
    row = cell("", seed, 0.0, p=0.6, reached=False)
    return {name: row[name] for name in row if name not in ("weights", "steps")} | {"key": key, "maintained": [0.5] * 2}


def test_a_finished_cell_is_read_not_measured(tmp_path: Path) -> None:
    path, calls = tmp_path / "cells.jsonl", []

    def work() -> dict[str, Any]:
        calls.append(1)
        return {"forget": [0.25, 0.75]}

    key = {"part": "localized", "edit": {"betas": (0.9, 0.95)}}  # a tuple, which JSON does not have
    first = Cells(path).get(key, work)
    again = Cells(path).get(key, work)
    other = Cells(path).get(key | {"edit": {"betas": (0.9, 0.999)}}, work)
    assert again == first
    assert other["key"] != first["key"]
    assert len(calls) == 2
    assert len(path.read_text().splitlines()) == 2


def test_the_lowest_learning_rate_that_reached_the_targets_counts(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    cells.rows = [
        unedited(0),
        unedited(1),
        cell("CT", 0, 1e-4, p=0.4, reached=False, attacked=False),
        cell("CT", 0, 5e-4, p=0.02, reached=True),
        cell("CT", 1, 5e-4, p=0.04, reached=True),
        cell("CT", 1, 1e-4, p=0.9, reached=True),  # not the rate that the first seed chose
    ]
    table = removal_localized.report(cells, [0, 1])
    (row,) = [line for line in table.splitlines() if line.startswith("| CT |")]
    assert "| 0.0005 |" in row
    assert "| 0.03 (" in row  # the mean over both seeds' facts
    assert row.count("0.80 (missed)") == 2  # 0.4 of 0.5, each seed beside its own start


def test_the_picture_has_every_cell_and_the_papers_point(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    for scale, p in ((1.0, 0.3), (2.0, 0.1)):
        key = removal_tars._key("ours, 1 edit", scale, 0)
        cells.rows.append({"key": key, "p": [p], "kl_median": [0.01]})
    removal_tars.draw(cells, tmp_path / "picture.svg")
    picture = (tmp_path / "picture.svg").read_text()
    assert picture.count("<title>ours, 1 edit, scale") == 2
    assert "paper (8B" in picture


def test_cells_are_plain_json() -> None:
    stored = Path(__file__).resolve().parent.parent / "docs" / "removal.jsonl"
    if not stored.is_file():
        pytest.skip("nothing measured yet")
    rows = [json.loads(line) for line in stored.read_text(encoding="utf-8").splitlines()]
    assert {row["key"]["part"] for row in rows} <= {"localized", "surgery", "tars"}
    assert len({json.dumps(row["key"], sort_keys=True) for row in rows}) == len(rows)
