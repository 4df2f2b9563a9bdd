"""docs/architecture.md and CONTRIBUTING.md name only what exists, and the table of rooms is the declared one."""

import ast
import re
from pathlib import Path

import pytest

from scripts.architecture import FLOORS, ROOT, STEPS, room_of

PAGE = ROOT / "docs" / "architecture.md"
PAGES = (ROOT / "CONTRIBUTING.md", ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_FILE = re.compile(r"(?:[\w.-]+/)+[\w.-]+\.(?:py|js|md|svg|toml|txt|yml)")
_NAME = re.compile(r"(?:analysis|ui|pages|benchmarks|scripts)(?:\.\w+)+")


def missing(page: str) -> list[str]:
    """What a page names in backticks, as a file or a dotted name of this project, that does not exist."""
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    words = [word for text in quoted for word in re.split(r"[\s,;=\[\]]+|\(.*?\)", text)]
    files = [word for word in words if _FILE.fullmatch(word) and word.split("/")[0] in _folders()]
    names = [word for word in words if _NAME.fullmatch(word)]
    return [word for word in files if not (ROOT / word).exists()] + [word for word in names if not _exists(word)]


def _folders() -> set[str]:
    return {path.name for path in ROOT.iterdir() if path.is_dir()}


def _exists(name: str) -> bool:
    """Whether a dotted name leads to a module, a package, or something defined in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return _defined(file, parts[length:])
    return ROOT.joinpath(*parts).is_dir()


def _defined(file: Path, names: list[str]) -> bool:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (file, file.with_suffix(".pyi")) if path.is_file()]
    return not names or any(_has(tree, names) for tree in trees)


def _has(tree: ast.Module | ast.ClassDef, names: list[str]) -> bool:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == names[0]:
            return len(names) == 1 or _has(node, names[1:])
        if len(names) > 1:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == names[0]:
            return True
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if names[0] in {target.id for target in targets if isinstance(target, ast.Name)}:
                return True
        if isinstance(node, ast.ImportFrom) and names[0] in {alias.asname or alias.name for alias in node.names}:
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_every_name_exists(page: Path):
    assert missing(page.read_text(encoding="utf-8")) == []


def test_what_does_not_exist_is_found():
    good = "`analysis/errors.py` `analysis.runs.library.start(config)` `analysis.jobs.job.Job.request_stop` `ui.canvas` `torch.nn`"
    assert missing(good) == []
    bad = "`analysis/nothing.py` `analysis.runs.library.nothing` `analysis.jobs.job.Job.nothing()` `ui.nothing` `runs/x.py`"
    assert missing(bad) == [
        "analysis/nothing.py",
        "analysis.runs.library.nothing",
        "analysis.jobs.job.Job.nothing",
        "ui.nothing",
    ]


def test_the_table_has_every_room_on_its_floor():
    rows = re.findall(r"^\| (\d+) \| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    declared = [
        (len(FLOORS) - 1 - i, room.removeprefix("analysis/")) for i, rooms in enumerate(FLOORS) for room in rooms
    ]
    assert [(int(floor), room) for floor, room in rows] == declared


def test_the_steps_go_through_the_rooms_that_the_picture_numbers():
    section = PAGE.read_text(encoding="utf-8").split("## From a click to the moving canvas")[1].split("\n## ")[0]
    steps = re.split(r"^\d\. ", section, flags=re.MULTILINE)[1:]
    assert len(steps) == len(STEPS)
    for step, room in zip(steps, STEPS):
        named = {room_of(f"{name.replace('.', '/')}.py") for name in _NAME.findall(step)}
        named |= {room_of(name) for name in _FILE.findall(step)}
        assert room in named, step
