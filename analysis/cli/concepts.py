"""Commands about concepts: list them, check and keep one from a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from analysis.cli.common import AsJson, Label, escape, names, print_json, stdout

if TYPE_CHECKING:
    from analysis.concepts import Preview

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
    file: Annotated[
        str,
        typer.Argument(
            help="JSON lines, CSV, CoNLL, X_tokens.txt with X_labels.txt, a benchmark (JSON, JSON lines, Parquet), or a hub "
            "data set, owner/name:configuration:split."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name to keep it under (default: from the file).")] = None,
    label: Label = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt for facts without one, with {subject} (repeatable).")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Say what was understood, and keep nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a concept's file and keep the concept, so that its name works everywhere."""
    from analysis import concepts as library
    from analysis.concepts.hub import is_hub_name, preview_hub

    asked = {"templates": tuple(template or ()), "label": label, "name": name}
    found = preview_hub(file, **asked) if is_hub_name(file) else library.preview(Path(file).expanduser(), **asked)
    if preview:
        return _show(found, as_json=as_json)
    concept = found.concept
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
    stdout.print(f"Kept “{concept.name}”: {found.counts()}.", soft_wrap=True)
    if concept.description:
        stdout.print(escape(concept.description), soft_wrap=True)


def _show(found: "Preview", *, as_json: bool) -> None:
    """Print what was understood of a file."""
    if as_json:
        return print_json(
            {
                "name": found.concept.name,
                "kind": found.kind,
                "facts": len(found.concept.facts),
                "sentences": len(found.concept.sentences),
                "records": found.n_records,
                "left_out": dict(found.left_out),
                "groups": dict(found.groups),
                "rows": found.rows(),
                "description": found.concept.description,
            }
        )
    stdout.print(f"“{found.concept.name}”, {found.kind}: {found.counts()}. Nothing was kept.", soft_wrap=True)
    if found.concept.description:
        stdout.print(escape(found.concept.description), soft_wrap=True)
    rows = found.rows()
    table = Table(*dict.fromkeys(column for row in rows for column in row))
    for row in rows:
        table.add_row(*(escape(str(row.get(str(column.header), ""))) for column in table.columns))
    stdout.print(table)
