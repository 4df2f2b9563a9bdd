"""Read the imports of the source, check them against the declared floors, and draw docs/architecture.svg from them.

    python scripts/architecture.py                                 # the numbers as a table
    python scripts/architecture.py --json                          # the same for machines
    python scripts/architecture.py --svg docs/architecture.svg     # draw the picture
    python scripts/architecture.py --check                         # fail if the committed picture is out of date

Every import counts: at the top of a file, inside a function, for type checkers only, and the names that a package offers
lazily through its `__init__.pyi`, and the modules beside an `__init__.py` that finds them with `pkgutil`. A *room* is a package of `analysis/` or `ui/` with all that is in it, a single module
beside the packages, or `pages/`. An import points at the file that defines what is imported; that Python also runs the
`__init__.py` of every package on the way there is not counted.

Knows nothing of how the picture is laid out (`architecture_picture.py`). Imports nothing of the project.
"""

import argparse
import ast
import json
import re
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"

FLOORS: tuple[tuple[str, ...], ...] = (
    # a room may import rooms of the floors below its own, and nothing else
    ("pages", "benchmarks", "analysis/cli"),
    ("ui/relearn", "ui/compare", "analysis"),
    ("ui/saliency", "ui/canvas", "analysis/notebook"),
    ("ui/surgery", "ui/circuits", "ui/lens"),
    ("ui/app", "analysis/canvas", "analysis/worker.py"),
    ("analysis/figures", "analysis/removals", "analysis/runs"),
    ("analysis/evaluation", "analysis/migration"),
    ("analysis/localization", "analysis/relearning"),
    ("analysis/edits", "analysis/neuron_cards"),
    ("analysis/lens", "analysis/saliency"),
    ("analysis/training", "analysis/scoring", "analysis/jobs"),
    ("analysis/concepts", "analysis/models"),
    ("analysis/components", "analysis/checks.py", "analysis/paths.py"),
    ("analysis/errors.py", "analysis/progress.py", "analysis/stats.py"),
)
"""The rooms from the roof to the ground: the one place where the order is declared."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "dashboard": ("pages", "ui/*"),
    "other ways in": ("analysis", "analysis/cli", "analysis/notebook", "analysis/worker.py", "benchmarks"),
    "kept on disk": ("analysis/canvas", "analysis/removals", "analysis/runs", "analysis/jobs"),
    "change a model": ("analysis/edits", "analysis/relearning", "analysis/training"),
    "measure a model": (
        *("analysis/evaluation", "analysis/figures", "analysis/lens", "analysis/localization"),
        *("analysis/migration", "analysis/neuron_cards", "analysis/saliency", "analysis/scoring"),
    ),
    "what it is about": ("analysis/components", "analysis/concepts", "analysis/models"),
    "under everything": (
        *("analysis/checks.py", "analysis/errors.py", "analysis/paths.py", "analysis/progress.py"),
        "analysis/stats.py",
    ),
}
"""What rooms have in common; one colour each in the picture."""

STEPS: tuple[str, ...] = (
    *("ui/relearn", "analysis/jobs", "analysis/worker.py"),
    *("analysis/relearning", "analysis/runs", "analysis/canvas"),
)
"""The rooms on the way from a click to the moving canvas, as docs/architecture.md numbers its steps."""

ENTRIES = {"analysis/__main__.py": "analysis/cli", "app.py": "pages"}
"""Files that only start a room: they belong to it."""

TREES = ("analysis", "ui", "pages", "benchmarks")


@dataclass(frozen=True)
class File:
    """One Python file."""

    path: str
    """From the root: `analysis/errors.py`."""
    lines: int
    imports: frozenset[str]
    """Paths of the project's files that it imports."""
    foreign: frozenset[str]
    """Top-level names of the other packages that it imports."""
    first_sentence: str
    """Of its docstring."""
    empty: bool
    """Whether there is nothing in it but a docstring."""


@dataclass(frozen=True)
class Source:
    """All files, and what follows from their imports."""

    files: Mapping[str, File]

    @cached_property
    def rooms(self) -> dict[str, list[File]]:
        """Room -> its files; a package's empty `__init__.py` above the rooms is none."""
        rooms: dict[str, list[File]] = {}
        for path, file in self.files.items():
            if not (path == "ui/__init__.py" and file.empty):
                rooms.setdefault(room_of(path), []).append(file)
        return dict(sorted(rooms.items()))

    @cached_property
    def file_arrows(self) -> dict[str, set[str]]:
        return {path: set(file.imports) for path, file in self.files.items()}

    @cached_property
    def arrows(self) -> dict[str, set[str]]:
        """Room -> rooms that it imports."""
        arrows: dict[str, set[str]] = {room: set() for room in self.rooms}
        for room, files in self.rooms.items():
            for file in files:
                arrows[room] |= {room_of(path) for path in file.imports} - {room}
        return arrows

    @cached_property
    def back_up(self) -> list[str]:
        """Imports of a room on the same floor or above, each with the files that make it."""
        floor = declared()
        found = []
        for path, file in self.files.items():
            for other in sorted(file.imports):
                room, target = room_of(path), room_of(other)
                if room != target and floor.get(room, 0) >= floor.get(target, len(FLOORS)):
                    found.append(f"{path} -> {other}")
        return found

    def sizes(self, *trees: str) -> dict[str, int]:
        """Lines of the files in some trees, the largest first."""
        chosen = {path: file.lines for path, file in self.files.items() if path.split("/")[0] in trees}
        return dict(sorted(chosen.items(), key=lambda item: (-item[1], item[0])))


def read(root: Path = ROOT) -> Source:
    """Read every Python file of `TREES`, and app.py."""
    paths = [path for tree in TREES for path in sorted((root / tree).rglob("*.py"))]
    paths += [path for path in [root / "app.py"] if path.is_file()]
    modules = {_module(path.relative_to(root)): path.relative_to(root).as_posix() for path in paths}
    stubs = {modules[_module(path.relative_to(root))]: path.with_suffix(".pyi") for path in paths}
    lazy = {path: _offered(_module(Path(path)), stub, modules) for path, stub in stubs.items() if stub.is_file()}
    files = {}
    for name, relative in modules.items():
        text = (root / relative).read_text(encoding="utf-8")
        tree = ast.parse(text, relative)
        targets, foreign = set(lazy.get(relative, {}).values()), set()
        for base, imported in _imports(tree, name, relative):
            target = _target(base, imported, modules, lazy)
            if target is None:
                foreign.add(base.split(".")[0])
            elif target != relative:
                targets.add(target)
        docstring = ast.get_docstring(tree) or ""
        if any(isinstance(node, ast.Attribute) and node.attr == "iter_modules" for node in ast.walk(tree)):
            beside = {path for path in modules.values() if path.rpartition("/")[0] == relative.rpartition("/")[0]}
            targets |= beside - {relative}
        files[relative] = File(
            relative,
            text.count("\n"),
            frozenset(targets),
            frozenset(foreign),
            re.split(r"(?<=[.?!])\s|\n\n", docstring, maxsplit=1)[0].replace("\n", " "),
            len(tree.body) <= bool(docstring),
        )
    return Source(dict(sorted(files.items())))


def room_of(path: str) -> str:
    """The room that a file belongs to."""
    if path in ENTRIES:
        return ENTRIES[path]
    parts = path.split("/")
    if parts[0] in ("pages", "benchmarks") or len(parts) == 1:
        return parts[0]
    return parts[0] if parts[1] == "__init__.py" else "/".join(parts[:2])


def declared() -> dict[str, int]:
    """Room -> floor, counted from the roof."""
    return {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def family_of(room: str) -> str:
    """The family of a room, by name or by the folder it is in."""
    for family, rooms in FAMILIES.items():
        if room in rooms or f"{room.split('/')[0]}/*" in rooms:
            return family
    raise SystemExit(f"{room} is in no family: name it in FAMILIES in scripts/architecture.py.")


def circles(arrows: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups that import each other, directly or by way of others (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in order:
                visit(other)
            if other in stack:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == order[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(arrows):
        if node not in order:
            visit(node)
    return found


def longest_paths(arrows: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Floor of every room counted from the ground: one above the highest that it imports. Empty if there is a circle."""
    if circles(arrows):
        return {}
    floors: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in floors:
            floors[room] = max((floor(other) + 1 for other in sorted(arrows[room])), default=0)
        return floors[room]

    for room in sorted(arrows):
        floor(room)
    return floors


def reduced(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows without those that a longer way implies (transitive reduction of a graph without circles)."""
    reached: dict[str, set[str]] = {}

    def reach(room: str) -> set[str]:
        if room not in reached:
            reached[room] = set().union(*({other} | reach(other) for other in arrows[room]))
        return reached[room]

    return {
        room: {other for other in others if not any(other in reach(way) for way in others if way != other)}
        for room, others in arrows.items()
    }


def numbers(source: Source) -> dict[str, object]:
    """What the table and `--json` say."""
    sizes = source.sizes("analysis", "ui", "pages")
    largest = next(iter(sizes))
    return {
        "rooms": len(source.rooms),
        "floors": 1 + max(longest_paths(source.arrows).values(), default=-1),
        "arrows": sum(map(len, source.arrows.values())),
        "arrows drawn": sum(map(len, reduced(source.arrows).values())) if not circles(source.arrows) else None,
        "circles of rooms": circles(source.arrows),
        "circles of files": circles(source.file_arrows),
        "imports back up": source.back_up,
        "files": len(source.files),
        "lines": sum(file.lines for file in source.files.values()),
        "largest file": {"path": largest, "lines": sizes[largest]},
        "median lines": statistics.median(sizes.values()),
        "files by room": {room: len(files) for room, files in source.rooms.items()},
        "lines by room": {room: sum(file.lines for file in files) for room, files in source.rooms.items()},
    }


def table(source: Source) -> str:
    """The numbers as text: the whole, then room by room from the roof."""
    found = numbers(source)
    lines = [f"{name:<18} {_said(value)}" for name, value in found.items() if not name.endswith("by room")]
    lines += ["", f"{'room':<24} {'floor':>5} {'files':>6} {'lines':>7}  imports"]
    floors = longest_paths(source.arrows)
    for room in sorted(source.rooms, key=lambda room: (-floors.get(room, 0), room)):
        files = source.rooms[room]
        imports = ", ".join(other.removeprefix("analysis/") for other in sorted(source.arrows[room]))
        total = sum(file.lines for file in files)
        lines.append(f"{room:<24} {floors.get(room, '?'):>5} {len(files):>6} {total:>7}  {imports}")
    return "\n".join(lines)


def _said(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(
            [str(len(value)), *(f"    {one if isinstance(one, str) else ' <-> '.join(one)}" for one in value)]
        )
    if isinstance(value, dict):
        return f"{value['lines']} lines in {value['path']}"
    return str(value)


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _imports(tree: ast.AST, module: str, path: str) -> Iterator[tuple[str, str | None]]:
    """Every import of a file as (module, name or None), relative ones made absolute."""
    package = module.split(".") if path.endswith("__init__.py") else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((base, alias.name) for alias in node.names)


def _offered(module: str, stub: Path, modules: Mapping[str, str]) -> dict[str, str]:
    """What a package offers lazily: name -> path of the file that defines it."""
    tree = ast.parse(stub.read_text(encoding="utf-8"), str(stub))
    offered = {}
    for base, name in _imports(tree, module, "__init__.py"):
        path = _target(base, name, modules, {})
        if path is not None and name is not None:
            offered[name] = path
    return offered


def _target(
    base: str, name: str | None, modules: Mapping[str, str], lazy: Mapping[str, Mapping[str, str]]
) -> str | None:
    """Path of the project's file that an import is of; None if it is of another package."""
    if name is not None and f"{base}.{name}" in modules:
        return modules[f"{base}.{name}"]
    if base in modules:
        return lazy.get(modules[base], {}).get(name or "", modules[base])
    return None


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout to read")
    parser.add_argument("--json", action="store_true", help="numbers for machines")
    parser.add_argument("--svg", type=Path, help="write the picture there")
    parser.add_argument("--check", action="store_true", help="fail if the committed picture is out of date")
    options = parser.parse_args(arguments)
    source = read(options.root)
    if options.svg or options.check:
        sys.path.insert(0, str(ROOT))
        from scripts import architecture_picture as picture

        if options.svg:
            options.svg.write_text(picture.draw(source), encoding="utf-8")
        if options.check and (stale := picture.differences(source, PICTURE)):
            sys.stderr.write(f"{stale}\nDraw it again: python scripts/architecture.py --svg docs/architecture.svg\n")
            return 1
        return 0
    sys.stdout.write((json.dumps(numbers(source), indent=2) if options.json else table(source)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
