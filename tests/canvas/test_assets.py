"""The joined canvas: every file keeps its own scope, and what cannot be joined is refused with file and line."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.canvas import assets
from analysis.canvas.assets import join_modules

SCRIPTS = sorted((Path(assets.__file__).parent / "js").glob("*.js"))
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed: scripts are not run")


def written(folder: Path, **files: str) -> Path:
    """Writes NAME.js for each; the path of the first, which is the entry."""
    for name, text in files.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.js"


def evaluated(module: str, expression: str):
    """What `expression` is, with `main` for the module's default export."""
    assert NODE is not None
    script = f'const main = (await import("data:text/javascript," + encodeURIComponent({json.dumps(module)}))).default;'
    script += f"console.log(JSON.stringify({expression}));"
    command = [NODE, "--input-type=module", "-e", script]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@needs_node
def test_the_joined_canvas_is_one_module_that_node_parses():
    assert NODE is not None
    subprocess.run([NODE, "--input-type=module", "--check"], input=assets.MODULE, text=True, check=True)
    assert not re.search(r"^\s*import\b", assets.MODULE, re.MULTILINE)
    assert re.findall(r"^export .*", assets.MODULE, re.MULTILINE) == ["export default $canvas.default;"]


def test_every_file_of_the_canvas_is_joined_once():
    joined = re.findall(r"^const \$(\w+) = \(\(\) => \{$", assets.MODULE, re.MULTILINE)
    assert sorted(joined) == [path.stem for path in SCRIPTS]


def test_every_export_is_used_by_another_file_or_a_test():
    read = {path: path.read_text(encoding="utf-8") for path in SCRIPTS}
    tests = "".join(path.read_text(encoding="utf-8") for path in (Path(__file__).parents[1] / "js").glob("*.test.js"))
    for path, text in read.items():
        others = tests + "".join(other for one, other in read.items() if one != path)
        for name in re.findall(r"^export (?:function|const) (\w+)", text, re.MULTILINE):
            assert re.search(rf"\b{name}\b", others), f"{path.name} exports {name}, which nothing imports"


@needs_node
def test_files_keep_their_own_scope(tmp_path: Path):
    entry = written(
        tmp_path,
        main="""// Says what it got.
import { one } from "./left.js";
import {
  other, two,
} from "./right.js";
const own = 1;
export default function main() { return [own, one(), two, other.own]; }
""",
        left='const own = 2;\n/* import { own } from "./main.js"; */\nexport function one() { return own; }\n',
        right='import { one } from "./left.js";\nconst own = one() + 1;\nexport const two = own;\nexport class other { static own = 4; }\n',
    )
    assert evaluated(join_modules(entry), "main()") == [1, 2, 3, 4]


@needs_node
def test_a_file_that_two_others_import_runs_once(tmp_path: Path):
    entry = written(
        tmp_path,
        main='import { a } from "./a.js";\nimport { b } from "./b.js";\nexport default function main() { return a === b; }\n',
        a='import { shared } from "./shared.js";\nexport const a = shared;\n',
        b='import { shared } from "./shared.js";\nexport const b = shared;\n',
        shared="export const shared = {};\n",
    )
    assert evaluated(join_modules(entry), "main()") is True


@needs_node
def test_texts_that_look_like_imports_and_comments_stay(tmp_path: Path):
    text = """export default function main() {
  // a comment of its own
  return ["import { a } from './b.js'", 'see http://x', `${1}/*`];  // behind code
}
"""
    joined = join_modules(written(tmp_path, main=text))
    assert evaluated(joined, "main()") == ["import { a } from './b.js'", "see http://x", "1/*"]
    assert "a comment of its own" not in joined


MAIN = "\nexport default function main() {}\n"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"main": 'import part from "./part.js";' + MAIN}, r"main\.js:1: not supported: import part from"),
        ({"main": 'import * as part from "./part.js";' + MAIN}, r"main\.js:1: not supported"),
        ({"main": 'import { a as b } from "./part.js";' + MAIN}, r"main\.js:1: not supported"),
        ({"main": 'import { a } from "https://elsewhere/part.js";' + MAIN}, r"main\.js:1: not supported"),
        ({"main": '\nimport "./part.js";' + MAIN}, r"main\.js:2: not supported"),
        ({"main": MAIN + 'const part = await import("./part.js");\n'}, r"main\.js:3: not supported"),
        ({"main": MAIN + "const here = import.meta.url;\n"}, r"main\.js:3: not supported"),
        ({"main": MAIN + 'export * from "./part.js";\n'}, r"main\.js:3: not supported: export \*"),
        ({"main": MAIN + 'export { a } from "./part.js";\n'}, r"main\.js:3: not supported"),
        ({"main": MAIN + "const a = 1;\nexport { a };\n"}, r"main\.js:4: not supported"),
        ({"main": MAIN + "export let count = 0;\n"}, r"main\.js:3: not supported: export let"),
        ({"main": "export default () => 1;\n"}, r"main\.js:1: not supported"),
        ({"main": "export const a = 1;\n"}, r"main\.js:1: .*export default function"),
        ({"main": 'const a = 1;\nimport { b } from "./part.js";' + MAIN}, r"main\.js:2: imports must come first"),
        ({"main": 'import { a } from "./gone.js";' + MAIN}, r"main\.js:1: there is no gone\.js"),
        ({"main": "const text = `two\nlines`;" + MAIN}, r"main\.js:1: a text in backticks"),
        ({"main": "const $part = 1;" + MAIN}, r"main\.js:1: names that begin with \$"),
        (
            {"main": '// one\nimport { a, c } from "./part.js";' + MAIN, "part": "const c = 1;\nexport const a = c;\n"},
            r"main\.js:2: part\.js does not export c",
        ),
        (
            {
                "main": 'import { a } from "./left.js";' + MAIN,
                "left": 'import { b } from "./right.js";\nexport const a = 1;\n',
                "right": '\nimport { a } from "./left.js";\nexport const b = 1;\n',
            },
            r"right\.js:2: .*circle: main\.js → left\.js → right\.js → left\.js",
        ),
        ({"main": 'import { a } from "./part.js";' + MAIN, "part": MAIN}, r"part\.js: only the entry"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, files: dict[str, str], said: str):
    with pytest.raises(ValueError, match=said):
        join_modules(written(tmp_path, **files))
