"""Executes the Python of docs/notebook.md on the default model, and writes what it printed under each piece.

    python scripts/notebook_page.py

Tables and values go into a fenced block, figures and the canvas into a picture under docs/screenshots, taken with the
system's Chromium. The text between them is left alone, so the page can be edited and this be run again.
"""

import argparse
import ast
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "notebook.md"
PICTURES = ROOT / "docs" / "screenshots"
CELL = re.compile(r"```python\n(.*?)```\n(\n```text\n.*?```\n|\n!\[[^\n]*\n)?", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    names: dict[str, Any] = {}
    shown = iter(range(1000))
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        written = CELL.sub(lambda cell: f"```python\n{cell[1]}```\n" + output(execute(cell[1], names), shown), text)
    PAGE.write_text(written, encoding="utf-8")


def execute(source: str, names: dict[str, Any]) -> Any:
    """Run one piece as a notebook does: its last line, if it is an expression, is its value."""
    body = ast.parse(source)
    last = body.body.pop() if isinstance(body.body[-1], ast.Expr) else None
    exec(compile(body, str(PAGE), "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), str(PAGE), "eval"), names)


def output(value: Any, shown: Any) -> str:
    """What stands under a piece: nothing, a picture, or a fenced block."""
    if value is None:
        return ""
    if isinstance(value, go.Figure) or hasattr(value, "save_picture_of"):
        return picture(value.to_html(include_plotlyjs=True), next(shown), 900, 480)
    if hasattr(value, "page"):
        return picture(value.page, next(shown), 1100, 900)
    with pd.option_context("display.width", 120, "display.max_columns", 20, "display.precision", 3):
        return f"\n```text\n{value}\n```\n"


def picture(html: str, number: int, width: int, height: int) -> str:
    from playwright.sync_api import sync_playwright

    name = f"notebook-{number}.png"
    file = Path(f"{number}.html")
    file.write_text(html, encoding="utf-8")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(file.resolve().as_uri())
        page.wait_for_timeout(4000)
        page.screenshot(path=PICTURES / name)
        browser.close()
    return f"\n![What the line above shows](screenshots/{name})\n"


if __name__ == "__main__":
    main()
