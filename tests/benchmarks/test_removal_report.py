"""The removal report: finished cells are not measured again, and its tables show the cells that count."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import removal_localized
import removal_surgery
import removal_tars
from removal_bench import Cells

from analysis.evaluation.kl import KL, Reference
from analysis.models import TokenizedText


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


def test_the_frontier_is_told_over_all_seeds(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    for seed, p in ((1, 0.4), (0, 0.2)):
        measured = {name: [0.5, 0.75] for name in removal_tars._SHOWN} | {"p": [p, p / 2]}
        cells.rows.append({"key": removal_tars._key("published, 1 edit", 4.0, seed), **measured})
    (row,) = [line for line in removal_tars.report(cells, "picture.svg").splitlines() if line.startswith("| published")]
    assert row.startswith("| published, 1 edit | 4 | 2 | 0.225 (0.400) | 0.150, 0.300 | 0.6250 (0.7500) |")


def test_the_picture_and_the_table_show_the_last_state_of_a_sequence(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    done = {"p": 0.25, "kl_median": 0.1, "kl_mean": 0.4, "neighbours": 0.9, "bystanders_worst": 0.5, "reverse": 0.7}
    steps = [{"removed": ["Paris"], **done, "p": 0.5}, {"removed": ["Paris", "Potter"], **done}]
    steps.append({"removed": ["Paris", "Potter", "Holmes"], "error": "no noisy copy triggers it"})
    cells.rows.append({"key": removal_tars._sequence_key("published", 1), "steps": steps})
    assert "| published | 1 | 2 of 5 | 0.250 | 0.1000 |" in removal_tars.sequence(cells)
    removal_tars.draw(cells, tmp_path / "picture.svg")
    assert "published, 2 one after another, seed 1" in (tmp_path / "picture.svg").read_text()


def surgery(name: str, seed: int, *, maintained: float) -> dict[str, Any]:
    def state(p: float, chosen: float) -> dict[str, Any]:
        sets = {name: [p] for name in removal_surgery.SETS}
        kl = {
            text: {"kl_median": [0.01, 0, 1], "kl_mean": [0.03, 0, 1]} for text in ("general text", "maintained facts")
        }
        choices = {name: [1.0] for name in ("unlearned_choice", "maintained_choice", "updated_choice_true")}
        found = {"p": sets, "paraphrased": sets, "perplexity": sets, "neutral_loss": 4.0, **choices, "kl": kl}
        return found | {"updated_choice_new": [chosen]}

    after = state(0.125, 1.0)
    after["p"] = after["p"] | {"maintained": [maintained]}
    key = removal_surgery._key(removal_surgery._edit(name, seed))
    return {"key": json.loads(json.dumps(key)), "before": state(0.5, 0.0), "after": after}


def test_surgery_shows_the_settings_that_hold_now_and_what_they_were_chosen_from(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    cells.rows = [surgery("ours", 0, maintained=0.5), surgery("published", 0, maintained=0.25)]
    other = surgery("published", 1, maintained=0.5)
    other["key"]["edit"]["steps"] += 1  # measured before the settings changed
    cells.rows.append(other)
    table = removal_surgery.report(cells, [0, 1])
    (shares,) = [line for line in table.splitlines() if line.startswith("| maintained, share of before")]
    assert shares == "| maintained, share of before, by seed | 1.00 | 0.50 (missed) |"
    assert "| seeds | 0 | 0 |" in table
    cells.rows.append(surgery("first", 0, maintained=0.25))
    (_, _, *rows) = removal_surgery.tried(cells, [0, 1]).splitlines()
    assert [("**ours**" in row, "0.50 (missed)" in row) for row in rows] == [(False, True), (True, False)]
    assert all("0.010 / 0.030" in row for row in rows)


def test_kl_is_split_at_the_answer(tmp_path: Path) -> None:
    words = {"the": 1, "capital": 2, "is": 3, "New": 4, "Delhi": 5, "Rome": 6}

    def encode(text: str) -> TokenizedText:
        found = list(re.finditer(r"\S+", text))
        return TokenizedText(tuple(words[one.group()] for one in found), tuple(one.span() for one in found))

    bench: Any = SimpleNamespace(model=SimpleNamespace(encode=encode))
    statements = [("the capital is New Delhi", 15), ("the is Rome", 7)]
    rows = ((1, 3, 6), (1, 2, 3, 4, 5))  # in the order of the reference, which is not that of the statements
    kept = Reference(path="", rows=rows, vocabulary=7, model="")
    kl = KL(kl_T=np.array([1.0, 2, 3, 10, 20, 30, 50, 60]), text_T=np.array([0, 0, 0, 1, 1, 1, 1, 1]))
    where = removal_surgery._where(bench, kl, kept, statements)
    assert where == {"inside the prompt": [1, 15], "the answer": [2, 40], "after the answer": [3, 60]}


def test_cells_are_plain_json() -> None:
    stored = Path(__file__).resolve().parents[2] / "docs" / "removal.jsonl"
    if not stored.is_file():
        pytest.skip("nothing measured yet")
    rows = [json.loads(line) for line in stored.read_text(encoding="utf-8").splitlines()]
    assert {row["key"]["part"] for row in rows} <= {"localized", "surgery", "tars", "tars in sequence"}
    assert len({json.dumps(row["key"], sort_keys=True) for row in rows}) == len(rows)
