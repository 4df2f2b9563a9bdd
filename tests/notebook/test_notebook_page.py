"""The lines of docs/notebook.md run as they stand, with a tiny model in the default one's place."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

import analysis
from analysis.canvas.page import CanvasPage
from scripts.notebook_page import execute

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"
CELLS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def tiny_front_door(tiny_model, tiny_concept, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tiny model knows no fact, so none is set aside; its runs are short and compute in float32."""
    small = {"known_threshold": 0.0, "precision": "float32", "batch_size": 4, "follow_top": 2}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(analysis, "load_model", lambda name: tiny_model, raising=False)
    monkeypatch.setattr(analysis, "load_concept", lambda name: replace(tiny_concept, name=name), raising=False)
    monkeypatch.setattr(analysis, "relearn", partial(analysis.relearn, progress=False, **small), raising=False)
    monkeypatch.setattr(
        analysis, "remove", partial(analysis.remove, progress=False, known_threshold=0.0), raising=False
    )


def test_every_line_runs(tiny_front_door: None):
    names: dict[str, object] = {}
    values = [execute(cell, names) for cell in CELLS]
    assert len(values) >= 8
    assert {pd.DataFrame, go.Figure, CanvasPage, bool} <= {type(value) for value in values}
    assert values[[type(value) for value in values].index(bool)] is True  # the stored run gives the same summary


def test_every_name_of_the_front_door_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in analysis.__all__ if f"`{name}`" not in text] == []


def test_the_page_shows_what_the_lines_printed():
    """Written by `make notebook`: no line is left without its output."""
    text = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"```python\n.*?```\n\n(?:```text|!\[)", text, re.DOTALL)) >= len(CELLS) - 1
