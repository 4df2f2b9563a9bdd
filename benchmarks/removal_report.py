"""What each way of removing a concept really did on the default model: docs/removal.md, with its picture.

    python benchmarks/removal_report.py [--part surgery localized tars] [--seeds 0 1 2] [--out docs/removal.md]
        [--cells FILE.jsonl] [--objectives unlearn inject] [--circuits "FLU, paths" CT] [--settings ours] [--write-only]

Every measurement is a line of `--cells` (default: beside `--out`) as soon as it is done; what is found there is not
measured again, so the command can be stopped and taken up at any time; delete the file to measure anew. The document is
written from the cells that are there, all of them on the CPU. `removal_localized`, `removal_surgery` and `removal_tars`
say what their parts measure. Progress goes to stderr.
"""

import argparse
import logging
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from anywhere, without installing

import removal_localized
import removal_surgery
import removal_tars
from removal_bench import Bench, Cells

PARTS = ("surgery", "localized", "tars")
FINDINGS = Path(__file__).with_name("removal_findings.md")
"""What we read out of the tables; the numbers in it are those of the tables."""


def main() -> None:
    """Measure what is missing and write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "docs" / "removal.md")
    parser.add_argument("--cells", type=Path, help="file of finished measurements; default: beside --out")
    parser.add_argument("--objectives", nargs="+", choices=list(removal_localized.OBJECTIVES), default=["unlearn"])
    parser.add_argument("--circuits", nargs="+", choices=removal_localized.CIRCUITS, default=removal_localized.CIRCUITS)
    settings = [*removal_surgery.SETTINGS, *removal_surgery.TRIED]
    parser.add_argument("--settings", nargs="+", choices=settings, default=settings)
    parser.add_argument("--write-only", action="store_true", help="measure nothing, write the document")
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # on a busy machine two threads wait for each other many times longer than they compute
    cells = Cells(options.cells or options.out.with_suffix(".jsonl"))
    try:
        if not options.write_only:
            _measure(options, cells)
    finally:
        write(cells, options.out, sorted({row["key"]["seed"] for row in cells.rows}))


def _measure(options: argparse.Namespace, cells: Cells) -> None:
    if {"surgery", "localized"} & {*options.part}:
        bench = Bench()
        if "surgery" in options.part:
            removal_surgery.run(bench, cells, options.seeds, options.settings)
        if "localized" in options.part:
            removal_localized.run(bench, cells, options.seeds, options.objectives, options.circuits)
    if "tars" in options.part:
        removal_tars.run(cells, options.seeds)


def write(cells: Cells, path: Path, seeds: list[int]) -> None:
    """The document, from the cells that are there."""
    picture = path.with_name("removal-tars.svg")
    if cells.of("tars"):
        removal_tars.draw(cells, picture)
    findings = FINDINGS.read_text(encoding="utf-8").strip()
    parts = {
        "surgery": removal_surgery.report(cells, seeds) if cells.of("surgery") else "",
        "surgery tried": removal_surgery.tried(cells, seeds) if cells.of("surgery") else "",
        "localized": removal_localized.report(cells, seeds) if cells.of("localized") else "",
        "paper": removal_localized.PAPER,
        "tars": removal_tars.report(cells, picture.name) if cells.of("tars") else "",
        "tars sequence": removal_tars.sequence(cells) if cells.of(removal_tars.SEQUENCE) else "",
    }
    for name, table in parts.items():
        findings = findings.replace(f"<!-- {name} -->", table or "*Not measured.*")
    path.write_text(findings + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
