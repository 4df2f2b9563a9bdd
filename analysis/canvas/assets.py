"""Joins the canvas's ES modules into one module, as an inline Streamlit component requires, and reads the canvas's styles.

In the joined text every file becomes a function that is called once and returns its exports. So every file keeps its own
scope, and an import reads from the value that the other file's function returned. Only the kinds of import and export that
this project uses are supported; all others are refused. Exports are constant (``export let`` is refused), so values can
replace live bindings. Comments are removed, because Streamlit sends the text again with every update of a component.
"""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MODULE", "STYLES", "join_modules"]

_IMPORT = re.compile(r'^import \{(\s*(?:\w+\s*,\s*)*\w*\s*)\} from "\./(\w+\.js)";$', re.MULTILINE)
_DEFAULT = re.compile(r"^export default (?=(?:async )?function (\w+)\()", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|const|class) (\w+)\b)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*(?://[^\n]*|/\*.*?\*/)", re.MULTILINE | re.DOTALL)
"""Comments that begin a line; comments behind code are kept."""
_LEFT_OVER = re.compile(r"^[ \t]*(?:import|export)\b|\bimport\s*[(.]", re.MULTILINE)


@dataclass(frozen=True)
class _Script:
    """One file: its text with imports and exports replaced by plain JavaScript, and lists of both."""

    path: Path
    body: str
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]
    """(line, file, names)."""
    exports: tuple[str, ...]
    default: str | None

    @property
    def variable(self) -> str:
        return f"${self.path.stem}"


def join_modules(entry: Path) -> str:
    """Join `entry` and all that it imports into one module text with the default export of `entry`.

    Imported files are in the folder of `entry` and come before the files that import them.

    Raises:
        ValueError: a file has an unsupported import or export (dynamic import, default import, renaming, ``export *``,
            ``export let``), imports something that does not exist, or imports in a circle; the message has file and line.
    """
    scripts: dict[Path, _Script] = {}
    _collect(entry, (), scripts)
    if scripts[entry].default is None:
        raise ValueError(f"{entry.name}:1: the entry must have an “export default function name(”.")
    return "\n".join([*map(_wrapped, scripts.values()), f"export default {scripts[entry].variable}.default;", ""])


def _collect(path: Path, importers: tuple[Path, ...], scripts: dict[Path, _Script]) -> None:
    """Add `path` to `scripts`, after everything that it imports."""
    script = _read(path)
    if importers and script.default is not None:
        raise ValueError(f"{path.name}: only the entry may have a default export.")
    for line, name, wanted in script.imports:
        imported = path.with_name(name)
        where = f"{path.name}:{line}"
        if imported in (*importers, path):
            circle = " → ".join(one.name for one in (*importers, path, imported))
            raise ValueError(f"{where}: files import each other in a circle: {circle}.")
        if not imported.is_file():
            raise ValueError(f"{where}: there is no {name}.")
        if imported not in scripts:
            _collect(imported, (*importers, path), scripts)
        missing = sorted(set(wanted) - set(scripts[imported].exports))
        if missing:
            raise ValueError(f"{where}: {name} does not export {', '.join(missing)}.")
    scripts[path] = script


def _read(path: Path) -> _Script:
    text = path.read_text(encoding="utf-8")
    code = _COMMENT.sub(
        lambda match: re.sub(r"[^\n]", " ", match[0]), text
    )  # of the same length, so line numbers agree
    for number, line in enumerate(code.splitlines(), 1):
        if line.count("`") % 2:  # text inside that looks like a comment or an import would be taken for one
            raise ValueError(f"{path.name}:{number}: a text in backticks must end on the line on which it begins.")
        if re.search(r"\$\w", line):
            raise ValueError(f"{path.name}:{number}: names that begin with $ are those of the joined files.")
    imports = list(_IMPORT.finditer(code))
    default = list(_DEFAULT.finditer(code))
    exports = list(_EXPORT.finditer(code))
    rest = code
    for match in (*imports, *default, *exports):
        rest = rest[: match.start()] + re.sub(r"[^\n]", " ", match[0]) + rest[match.end() :]
    left_over = _LEFT_OVER.search(rest)
    if left_over:
        at = left_over.end()
        raise ValueError(
            f"{path.name}:{_line(text, at)}: not supported: {text.splitlines()[_line(text, at) - 1].strip()}"
        )
    if imports and rest[: imports[-1].start()].strip():
        raise ValueError(f"{path.name}:{_line(text, imports[-1].start())}: imports must come first.")
    body = code
    for match in sorted((*imports, *default, *exports), key=re.Match.start, reverse=True):
        names = " ".join(match[1].split()).rstrip(",")
        plain = f"const {{ {names} }} = ${Path(match[2]).stem};" if match.re is _IMPORT else ""
        body = body[: match.start()] + plain + body[match.end() :]
    return _Script(
        path=path,
        body="".join(f"{line.rstrip()}\n" for line in body.splitlines() if line.strip()),
        imports=tuple((_line(text, match.start()), match[2], tuple(re.findall(r"\w+", match[1]))) for match in imports),
        exports=tuple(match[1] for match in exports),
        default=default[0][1] if default else None,
    )


def _wrapped(script: _Script) -> str:
    exports = [*script.exports, *([f"default: {script.default}"] if script.default else [])]
    return f"const {script.variable} = (() => {{\n{script.body}return {{ {', '.join(exports)} }};\n}})();"


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


_HERE = Path(__file__).parent
MODULE = join_modules(_HERE / "js" / "canvas.js")
"""The canvas as one ES module; its default export is the function that Streamlit calls to draw."""
STYLES = (_HERE / "canvas.css").read_text(encoding="utf-8")
