"""Commands about concepts: list them, check and keep one from a file."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from analysis.cli.common import AsJson, Label, escape, names, print_json, stdout

__all__ = ["concepts", "import_concept"]


def concepts(as_json: AsJson = False) -> None:
    """List the concepts: built in and uploaded."""
    from analysis import concepts as library

    rows = []
    for name in library.available():
        concept = library.load(name)
        held_out = sum(fact.split == "held_out" for fact in concept.facts)
        rows.append(
            {
                "name": name,
                "title": concept.title,
                "facts": len(concept.facts),
                "held_out": held_out,
                "templates": len(concept.templates),
                "sentences": len(concept.sentences),
                "description": concept.description,
            }
        )
    if as_json:
        return print_json({"concepts": rows})
    table = Table(
        names("name", [row["name"] for row in rows]), "facts", "held out", "templates", "sentences", "description"
    )
    for row in rows:
        counts = [str(row[key]) for key in ("facts", "held_out", "templates", "sentences")]
        table.add_row(row["name"], *counts, escape(row["description"]))
    stdout.print(table)


def import_concept(
    file: Annotated[Path, typer.Argument(help="JSON lines, CSV, CoNLL, X_tokens.txt with X_labels.txt, CounterFact.")],
    name: Annotated[str | None, typer.Option(help="Name to keep it under (default: from the file).")] = None,
    label: Label = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt for CSV facts, with {subject} (repeatable).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a concept's file and keep the concept, so that its name works everywhere."""
    from analysis import concepts as library

    concept = library.read(file.expanduser(), templates=tuple(template or ()), label=label, name=name)
    kept = library.save(concept)
    held_out = sum(fact.split == "held_out" for fact in concept.facts)
    labelled = sum(bool(sentence.spans) for sentence in concept.sentences)
    if as_json:
        return print_json(
            {
                "name": concept.name,
                "title": concept.title,
                "facts": len(concept.facts),
                "held_out": held_out,
                "sentences": len(concept.sentences),
                "labelled_sentences": labelled,
                "description": concept.description,
                "path": str(kept),
            }
        )
    stdout.print(
        f"Kept “{concept.name}”: {len(concept.facts):,} facts ({held_out:,} held out), {len(concept.sentences):,} "
        f"sentences ({labelled:,} with a labelled word).",
        soft_wrap=True,
    )
    if concept.description:
        stdout.print(escape(concept.description), soft_wrap=True)
