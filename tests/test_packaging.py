"""What surrounds the code: pins, licence, citation, and what `import analysis` costs."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from analysis import __version__
from tests.requirement_files import requirements

ROOT = Path(__file__).parents[1]


def test_every_requirement_is_pinned():
    for file in sorted(ROOT.glob("requirements*.txt")):
        for requirement in requirements(file.name):
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), f"{file.name}: {requirement}"


def test_what_builds_the_package_is_pinned_alike_for_developers():
    """The test of the wheel builds with the developer's environment, `pip install .` with what pyproject.toml names."""
    listed = re.search(r"^requires = \[(.+)\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert listed is not None
    build = {str(Requirement(one.strip(' "'))) for one in listed[1].split(",")}
    assert build
    assert build <= {str(requirement) for requirement in requirements("requirements-dev.txt")}


def test_the_changelog_tells_of_this_version():
    assert f"\n## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_names_this_version_and_the_four_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == __version__
    assert citation["license"] == "MIT"
    assert {"message", "title", "authors"} <= citation.keys()
    papers = {one["identifiers"][0]["value"].removeprefix("arXiv:"): one for one in citation["references"]}
    assert papers.keys() == {"2401.01814", "2410.12949", "2412.10257", "2409.13054"}
    for number, paper in papers.items():
        assert paper["url"] == f"https://arxiv.org/abs/{number}"
        assert all(author["family-names"] and author["given-names"] for author in paper["authors"])


def test_the_licence_is_the_one_that_is_named():
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    assert '\nlicense = "MIT"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_importing_the_library_is_cheap():
    """Under 0.2 s of processor time, or, on a machine too busy or slow for that, little beside the start of Python."""
    bare = min(_processor_seconds("pass") for _ in range(3))
    ours = min(_processor_seconds("import analysis") for _ in range(3))
    assert ours < max(0.2, 5 * bare), f"{ours:.3f} s of processor time; Python alone takes {bare:.3f} s"


def test_importing_the_library_imports_nothing_heavy():
    script = "import sys, analysis; print(*{'torch', 'numpy', 'pandas', 'scipy', 'transformers', 'typer', 'streamlit'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def _processor_seconds(script: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
