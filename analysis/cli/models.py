"""Commands about models: list the catalog, fetch one."""

from typing import Annotated

import typer
from rich.table import Column, Table

from analysis.cli.common import AsJson, names, print_json, progress_bar, quiet_transformers, stdout
from analysis.models import catalog

__all__ = ["fetch", "models"]


def models(as_json: AsJson = False) -> None:
    """List the models of the catalog."""
    from analysis.models import fetch

    rows = []
    for entry in catalog.CATALOG:
        here = fetch.is_fetched(catalog.resolve(entry.name))
        rows.append(
            {
                "name": entry.name,
                "title": entry.title,
                "source": entry.kind,
                "parameters": entry.parameters,
                "size": entry.size,
                "licence": entry.licence,
                "good_for": entry.good_for,
                "fetched": here,
            }
        )
    if as_json:
        return print_json({"models": rows})
    name = names("name", [row["name"] for row in rows])
    table = Table(name, "source", "weights", "size", "licence", "here", Column("good for", overflow="fold"))
    for row in rows:
        size = f"{row['size'] / 2**20:,.0f} MiB"
        millions = f"{row['parameters'] / 1e6:,.0f} M"
        here = "yes" if row["fetched"] else "no"
        table.add_row(row["name"], row["source"], millions, size, row["licence"], here, row["good_for"])
    stdout.print(table)


def fetch(
    model: Annotated[str, typer.Argument(help="Catalog name, hub id or .gguf file.")] = catalog.DEFAULT_MODEL,
    as_json: AsJson = False,
) -> None:
    """Download and convert a model, once."""
    from analysis.models import fetch as fetching

    source = catalog.resolve(model)
    with progress_bar() as report, quiet_transformers():
        folder = fetching.locate(source, report)
    if as_json:
        return print_json({"model": source.name, "folder": str(folder)})
    stdout.print(f"{source.name} is ready in {folder}", soft_wrap=True)
