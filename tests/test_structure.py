"""Promises about the source itself."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "analysis").rglob("*.py"))
SCRIPTS = sorted([*(ROOT / "ui").rglob("*.js"), *(ROOT / "analysis").rglob("*.js")])


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{'.' * node.level}{node.module or ''}"


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_look_at():
    assert len(LIBRARY) > 20
    assert len(SCRIPTS) > 3


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_the_library_stands_alone(path: Path):
    """Nothing of the dashboard, and no way to read a pickle."""
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"streamlit", "ui", "pages", "app", "tests"}
    assert not roots & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_no_forbidden_calls(path: Path):
    for name, call in calls(path):
        assert name not in {"print", "eval", "exec", "torch.load", "pickle.load", "pickle.loads", "pd.read_pickle"}, (
            name
        )
        if name in {"np.load", "numpy.load"}:
            assert not any(keyword.arg == "allow_pickle" for keyword in call.keywords)
        for keyword in call.keywords:
            if keyword.arg == "trust_remote_code":
                assert ast.unparse(keyword.value) == "False"
            if keyword.arg == "use_safetensors":
                assert ast.unparse(keyword.value) == "True"


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_remote_code_is_never_trusted_by_other_ways(path: Path):
    """Also not through a dictionary of arguments."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values):
                if key is not None and ast.unparse(key) == "'trust_remote_code'":
                    assert ast.unparse(value) == "False"


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_no_bare_except(path: Path):
    bare = [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler) and node.type is None]
    assert bare == []


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_every_module_says_what_it_does(path: Path):
    assert ast.get_docstring(tree(path))
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_scripts_build_no_markup_from_text(path: Path):
    """Names of models and concepts come from users: markup made of text would let them run code in the page."""
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\s*\(|new Function", source)


@pytest.mark.parametrize("path", [*SCRIPTS, *sorted((ROOT / "ui").rglob("*.css"))], ids=relative)
def test_nothing_is_fetched_from_the_network(path: Path):
    source = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    if path.name == "line.js":  # asks the dashboard itself, at an address relative to it (tests/ui/app/test_updates.py)
        source = source.replace("fetch(url, {", "", 1)
        assert "const url = new URL(address, document.baseURI);" in source
    assert not re.search(r"https?://|\bfetch\s*\(|XMLHttpRequest|@import\s+[^\s{]|\bimport\s*\(", source)
