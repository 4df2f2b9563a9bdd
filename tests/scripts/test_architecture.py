"""Reading imports, finding circles and drawing: on small trees made for it."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts import architecture, architecture_picture
from scripts.architecture import circles, longest_paths, read, reduced, room_of

FILES = {
    "app.py": "from ui.app import shell\n",
    "pages/main.py": "import analysis.models\n",
    "ui/__init__.py": '"""Rooms by page."""\n',
    "ui/app/__init__.py": '"""What pages share."""\n',
    "ui/app/shell.py": "import streamlit\nfrom analysis import errors\n",
    "analysis/__init__.py": '"""The library."""\n__version__ = "1"\n',
    "analysis/__main__.py": "from analysis.cli import main\n",
    "analysis/cli/__init__.py": '"""The command line: `python -m analysis COMMAND`."""\n',
    "analysis/errors.py": '"""Every error: one\nbase class. More."""\n',
    "analysis/models/__init__.py": "import lazy_loader\n",
    "analysis/models/__init__.pyi": "from .load import load as load\n",
    "analysis/models/load.py": "def load():\n    from ..errors import Wrong\n    import torch\n",
    "analysis/models/deep/__init__.py": "import pkgutil\nfound = list(pkgutil.iter_modules(__path__))\n",
    "analysis/models/deep/deeper.py": "from .. import load\nfrom . import other\n",
    "analysis/models/deep/other.py": "from analysis.models import load\n",
    "analysis/edits/__init__.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from analysis.models import load, missing\n"
    ),
}


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., architecture.Source]:
    """Writes files, some of them other than in `FILES`, and reads them."""

    def build(**changed: str) -> architecture.Source:
        for path, text in {**FILES, **{key.replace("__", "/") + ".py": text for key, text in changed.items()}}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return read(tmp_path)

    return build


def test_every_kind_of_import_is_an_arrow_to_the_file_that_defines_the_name(tree):
    files = tree().files
    assert {path: set(file.imports) for path, file in files.items() if file.imports} == {
        "app.py": {"ui/app/shell.py"},
        "pages/main.py": {"analysis/models/__init__.py"},
        "ui/app/shell.py": {"analysis/errors.py"},
        "analysis/__main__.py": {"analysis/cli/__init__.py"},
        "analysis/models/__init__.py": {"analysis/models/load.py"},  # what it offers lazily
        "analysis/models/load.py": {"analysis/errors.py"},  # within a function
        "analysis/models/deep/__init__.py": {
            "analysis/models/deep/deeper.py",
            "analysis/models/deep/other.py",
        },  # found
        "analysis/models/deep/deeper.py": {"analysis/models/load.py", "analysis/models/deep/other.py"},
        "analysis/models/deep/other.py": {"analysis/models/load.py"},
        "analysis/edits/__init__.py": {"analysis/models/load.py", "analysis/models/__init__.py"},  # for types only
    }
    assert files["analysis/models/load.py"].foreign == {"torch"}
    assert files["analysis/errors.py"].first_sentence == "Every error: one base class."
    assert files["analysis/errors.py"].lines == 2


def test_files_have_their_rooms(tree):
    source = tree()
    assert set(source.rooms) == {
        *("pages", "ui/app", "analysis", "analysis/cli", "analysis/errors.py", "analysis/models", "analysis/edits")
    }
    assert [file.path for file in source.rooms["pages"]] == ["app.py", "pages/main.py"]
    assert source.arrows["analysis/edits"] == {"analysis/models"}
    assert source.arrows["analysis/models"] == {"analysis/errors.py"}
    assert room_of("analysis/models/deep/deeper.py") == "analysis/models"
    assert room_of("benchmarks/tiny.py") == "benchmarks"


def test_an_import_upwards_is_told_with_its_files(tree):
    assert tree().back_up == []
    source = tree(analysis__models__load="def load():\n    from analysis.edits import x\n")
    assert source.back_up == ["analysis/models/load.py -> analysis/edits/__init__.py"]
    assert circles(source.arrows) == [["analysis/edits", "analysis/models"]]
    assert longest_paths(source.arrows) == {}


def test_circles():
    assert circles({"a": "b", "b": "c", "c": ""}) == []
    assert circles({"a": "b", "b": "c", "c": "ad", "d": "e", "e": "d", "f": "a"}) == [["d", "e"], ["a", "b", "c"]]


def test_floors_and_the_reduced_arrows():
    arrows = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set(), "e": {"d"}}
    assert longest_paths(arrows) == {"a": 3, "b": 2, "c": 1, "d": 0, "e": 1}
    assert reduced(arrows) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set(), "e": {"d"}}


def test_the_picture_shows_every_room_and_arrow_within_its_frame(tree):
    source = tree()
    picture = architecture_picture.draw(source)
    assert picture == architecture_picture.draw(tree())
    root = ElementTree.fromstring(picture)
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    space = "{http://www.w3.org/2000/svg}"
    names = [str(text.text) for text in root.iter(f"{space}text") if text.get("class") == "name"]
    assert sorted(names) == sorted(room.removeprefix("analysis/") for room in source.rooms)
    arrows = [path for path in root.iter(f"{space}path") if "arrow" in path.attrib["class"]]
    assert len(arrows) == sum(map(len, reduced(source.arrows).values())) > 3
    for box in root.iter(f"{space}g"):
        if "transform" in box.attrib:
            x, y = map(float, box.attrib["transform"].removeprefix("translate(").removesuffix(")").split())
            rect = box.find(f"{space}rect")
            assert rect is not None
            assert 0 <= x <= width - float(rect.attrib["width"])
            assert 0 <= y <= height - float(rect.attrib["height"])
    assert "prefers-color-scheme:dark" in picture
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_a_picture_is_stale_when_an_arrow_or_much_of_a_size_changed(tree, tmp_path: Path):
    path = tmp_path / "picture.svg"
    assert "no picture.svg" in architecture_picture.differences(tree(), path)
    path.write_text(architecture_picture.draw(tree(analysis__errors="\n" * 100)))
    assert architecture_picture.differences(tree(), path)
    assert architecture_picture.differences(tree(analysis__errors="\n" * 100), path) == ""
    docstring = FILES["analysis/errors.py"]
    path.write_text(architecture_picture.draw(tree(analysis__errors=docstring + "\n" * 400)))
    assert architecture_picture.differences(tree(analysis__errors=docstring + "\n" * 420), path) == ""
    assert "has 600" in architecture_picture.differences(tree(analysis__errors=docstring + "\n" * 600), path)
    other = tree(analysis__errors=docstring + "\n" * 400, pages__main="import analysis.edits\n")
    assert "others now" in architecture_picture.differences(other, path)


def test_the_command_prints_numbers(capsys: pytest.CaptureFixture[str], tree, tmp_path: Path):
    tree()
    assert architecture.main(["--root", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rooms"], found["circles of rooms"], found["lines by room"]["analysis/errors.py"]) == (7, [], 2)
    assert architecture.main(["--root", str(tmp_path)]) == 0
    assert "imports back up    0" in capsys.readouterr().out
