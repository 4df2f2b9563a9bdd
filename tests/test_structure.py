"""Promises about the source itself. Every test looks at all files and tells each place that breaks its promise."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "analysis").rglob("*.py"))
SCRIPTS = sorted([*(ROOT / "ui").rglob("*.js"), *(ROOT / "analysis").rglob("*.js")])
STYLES = sorted([*(ROOT / "ui").rglob("*.css"), *(ROOT / "analysis").rglob("*.css")])

DASHBOARD = {"streamlit", "ui", "pages", "app", "tests"}
READS_PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"print", "eval", "exec", "torch.load", "pickle.load", "pickle.loads", "pd.read_pickle"}


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """The module and everything in it."""
    return tuple(ast.walk(ast.parse(text(path), str(path))))


def assert_no_file_has(
    paths: Iterable[Path], find: Callable[[Path], Iterator[str | tuple[ast.AST, str]]], least: int = 20
) -> None:
    """`find` yields what is wrong with a file; all of it is told with its place: `analysis/paths.py:12: calls print`."""
    paths = list(paths)
    assert len(paths) >= least, "there is nothing to look at"
    told = []
    for path in paths:
        for one in find(path):
            line, what = (f":{getattr(one[0], 'lineno', 0)}", one[1]) if isinstance(one, tuple) else ("", one)
            told.append(f"{path.relative_to(ROOT)}{line}: {what}")
    assert not told, "\n" + "\n".join(told)


def test_the_library_stands_alone():
    """Nothing of the dashboard, and no way to read a pickle."""

    def unwanted_imports(path: Path) -> Iterator[tuple[ast.AST, str]]:
        for node in nodes(path):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{'.' * node.level}{node.module or ''}"]
            for name in names:
                if name.split(".")[0] in DASHBOARD | READS_PICKLES:
                    yield node, f"imports {name}"

    assert_no_file_has(LIBRARY, unwanted_imports)


def test_no_forbidden_calls():
    def forbidden(path: Path) -> Iterator[tuple[ast.AST, str]]:
        for node in nodes(path):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            values = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name in FORBIDDEN_CALLS or (name in {"np.load", "numpy.load"} and "allow_pickle" in values):
                yield node, f"calls {name}"
            if values.get("trust_remote_code", "False") != "False":
                yield node, "trusts remote code"
            if values.get("use_safetensors", "True") != "True":
                yield node, "takes other weights than safetensors"

    assert_no_file_has(LIBRARY, forbidden)


def test_remote_code_is_never_trusted_by_other_ways():
    """Also not through a dictionary of arguments."""

    def trust(path: Path) -> Iterator[tuple[ast.AST, str]]:
        for node in nodes(path):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values):
                    named = isinstance(key, ast.Constant) and key.value == "trust_remote_code"
                    if named and ast.unparse(value) != "False":
                        yield value, "trusts remote code"

    assert_no_file_has(LIBRARY, trust)


def test_no_bare_except():
    def bare(path: Path) -> Iterator[tuple[ast.AST, str]]:
        for node in nodes(path):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                yield node, "bare except"

    assert_no_file_has(LIBRARY, bare)


def test_every_module_says_what_it_does():
    def silent(path: Path) -> Iterator[str]:
        module = nodes(path)[0]
        assert isinstance(module, ast.Module)
        if not ast.get_docstring(module):
            yield "no docstring"
        yield from re.findall(r"\b(?:TODO|FIXME|XXX)\b", text(path))

    assert_no_file_has(LIBRARY, silent)


def test_only_the_models_package_looks_behind_a_language_model():
    """The TransformerLens bridge and the wrapped transformers model are its own; everything else asks `LanguageModel`."""
    inside = {"bridge", "inner", "_bridge", "_inner", "original_component", "_original_component", "original_model"}
    models = ROOT / "analysis" / "models"
    dashboard = [*(ROOT / "ui").rglob("*.py"), *(ROOT / "pages").rglob("*.py"), ROOT / "app.py"]

    def reaches_inside(path: Path) -> Iterator[tuple[ast.AST, str]]:
        for node in nodes(path):
            if isinstance(node, ast.Attribute) and node.attr in inside:
                yield node, f"reaches .{node.attr}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "transformer_lens":
                yield node, f"imports from {node.module}"

    assert_no_file_has([*(path for path in LIBRARY if models not in path.parents), *dashboard], reaches_inside)


def test_scripts_build_no_markup_from_text():
    """Names of models and concepts come from users: markup made of text would let them run code in the page."""

    def markup(path: Path) -> Iterator[str]:
        pattern = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\s*\(|new Function"
        yield from re.findall(pattern, text(path))

    assert_no_file_has(SCRIPTS, markup, least=4)


def test_nothing_is_fetched_from_the_network():
    def fetched(path: Path) -> Iterator[str]:
        source = text(path).replace("http://www.w3.org/2000/svg", "")
        if path.name == "line.js":  # asks the dashboard itself, at a relative address (tests/ui/app/test_updates.py)
            source = source.replace("fetch(url, {", "", 1)
            assert "const url = new URL(address, document.baseURI);" in source
        yield from re.findall(r"https?://|\bfetch\s*\(|XMLHttpRequest|@import\s+[^\s{]|\bimport\s*\(", source)

    assert_no_file_has([*SCRIPTS, *STYLES], fetched, least=5)
