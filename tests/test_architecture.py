"""The rules of docs/architecture.md, on the source as it is.

Which room may import which is declared in one place: `FLOORS` in scripts/architecture.py.
"""

import statistics
import subprocess
import sys

import pytest

from scripts import architecture, architecture_picture
from scripts.architecture import FAMILIES, FLOORS, ROOT, STEPS, Source, circles, family_of

MOST_LINES, MEDIAN_LINES = 400, 150
DASHBOARD = ("ui/", "pages/", "app.py")
LIGHT = (
    *("analysis", "analysis.cli", "analysis.components", "analysis.concepts", "analysis.errors"),
    *("analysis.jobs", "analysis.jobs.memory_broker", "analysis.jobs.queue", "analysis.models"),
    *("analysis.models.catalog", "analysis.models.fetch", "analysis.models.memory", "analysis.paths"),
    *("analysis.removals", "analysis.runs", "analysis.worker"),
)
"""Modules that answer at once: what a command line, a queue or a start page needs before a model is loaded."""
HEAVY = ("torch", "transformers", "transformer_lens", "pandas", "sklearn", "plotly", "streamlit")


@pytest.fixture(scope="module")
def source() -> Source:
    return architecture.read()


def test_every_room_has_its_floor_its_family_and_there_are_no_others(source: Source):
    declared = [room for floor in FLOORS for room in floor]
    assert len(declared) == len(set(declared))
    assert set(source.rooms) == set(declared), "name every room on a floor in FLOORS in scripts/architecture.py"
    assert {family_of(room) for room in declared} == set(FAMILIES)
    assert set(STEPS) < set(declared)


def test_no_room_imports_a_room_on_its_own_floor_or_above(source: Source):
    assert source.back_up == []


def test_no_circle_of_rooms_or_of_files(source: Source):
    assert circles(source.arrows) == []
    assert circles(source.file_arrows) == []


def test_only_the_dashboard_imports_streamlit_and_the_dashboard(source: Source):
    library = [file for path, file in source.files.items() if path.startswith("analysis/")]
    assert len(library) > 100
    assert [file.path for file in library if any(path.startswith(DASHBOARD) for path in file.imports)] == []
    drawn_by = {file.path.split("/")[0] for file in source.files.values() if "streamlit" in file.foreign}
    assert drawn_by == {"ui", "pages", "app.py", "benchmarks"}


def test_light_modules_import_nothing_that_takes_seconds():
    script = f"import sys, {', '.join(LIGHT)}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout.strip()) == (0, ""), found.stderr


def test_files_are_short(source: Source):
    sizes = source.sizes("analysis", "ui", "pages")
    assert {path: lines for path, lines in sizes.items() if lines > MOST_LINES} == {}
    assert statistics.median(sizes.values()) <= MEDIAN_LINES


def test_the_picture_is_up_to_date(source: Source):
    stale = architecture_picture.differences(source, architecture.PICTURE)
    assert not stale, f"{stale} Draw it again: make architecture"
