"""Commands about saliency: rank the neurons of a model for a concept, list the methods."""

import json
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from analysis.cli.common import (
    AsJson,
    ConceptName,
    Device,
    Label,
    ModelName,
    print_json,
    progress_bar,
    quiet_transformers,
    stdout,
)
from analysis.components.sites import MLP, SITES, site_named
from analysis.errors import ConfigError
from analysis.models import catalog

__all__ = ["methods", "saliency"]

_FIGURES = ("score", "signed", "standard_error", "q", "ablation_effect")
"""Columns of the table that are printed, if the method has them."""


def saliency(
    model: ModelName = catalog.DEFAULT_MODEL,
    concept: ConceptName = "capitals",
    label: Label = None,
    method: Annotated[str, typer.Option(help="A method of `palimpsest methods`.")] = "probeless",
    site: Annotated[str, typer.Option(help="mlp.hook_post, hook_resid_post or attn.hook_z.")] = MLP.name,
    ablate: Annotated[
        int, typer.Option(help="Also measure the exact effect of setting each of the top N to zero.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Parquet file: layer, neuron, score, rank.")] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    top: Annotated[int, typer.Option(help="Number of neurons to print.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Rank the neurons of a model (or residual dimensions, or heads) by how strongly they carry a concept."""
    from analysis import concepts as library
    from analysis import models, paths
    from analysis import saliency as scoring

    place = site_named(site)
    scoring.check_method(method, place)
    if scoring.METHODS[method].needs_units:
        raise ConfigError("Ablation is exact and slow: rank by another method and add --ablate 20.")
    chosen = library.load(concept, label=label)
    if out is not None and not out.absolute().parent.is_dir():
        raise ConfigError(f"The folder {out.absolute().parent} does not exist. Make it, or name another --out.")
    if out is not None and out.is_dir():
        raise ConfigError(f"{out} is a folder. Name the Parquet file to write.")
    with progress_bar() as report, quiet_transformers():
        loaded = models.load(model, device=device, dtype=dtype, progress=report)
        report("Scoring", 0.0)
        (result,) = scoring.measure(loaded, [chosen], methods=[method], site=place)
        effects = _ablated(loaded, chosen, result, ablate, report) if ablate > 0 else None
    table = result.table()
    if effects is not None:
        table["ablation_effect"] = effects
    if out is not None:
        table.attrs = {}  # written below instead, as plain text in the parquet metadata
        paths.write_atomically(
            out, _parquet(table, {"unit": result.unit, "concept": result.concept} | result.provenance)
        )
    best = table.sort_values("rank").head(max(top, 0))
    names = [place.label(layer, unit) for layer, unit in zip(best["layer"], best["neuron"])]
    if as_json:
        return print_json(
            {
                "model": loaded.name,
                "concept": result.concept,
                "method": method,
                "site": result.site,
                "unit": result.unit,
                "layers": loaded.n_layers,
                "neurons": result.scores_LN.shape[1],
                "concept_tokens": result.n_concept_tokens,
                "other_tokens": result.n_other_tokens,
                "out": str(out) if out else None,
                "top": [
                    {"neuron": name}
                    | {key: float(row[key]) if isfinite(row[key]) else None for key in _FIGURES if key in row}
                    for name, row in zip(names, best.to_dict("records"))
                ],
                "layer_figures": {name: values.tolist() for name, values in result.layers.items()},
                "provenance": result.provenance,
            }
        )
    columns = [key for key in _FIGURES if key in best]
    shown = Table("place", place.unit, *columns, title=f"{result.concept} by {method}: {result.unit}")
    for name, row in zip(names, best.to_dict("records")):
        shown.add_row(str(row["rank"] + 1), name, *(f"{row[key]:.4g}" for key in columns))
    stdout.print(shown)
    if result.standard_error_LN is not None:
        passed = int((result.q_values() < 0.05).sum())
        stdout.print(f"{passed:,} {place.plural} are significant at a false-discovery rate of 5%.")
    if out is not None:
        stdout.print(f"{len(table):,} {place.plural} written to {out}", soft_wrap=True)


def methods(as_json: AsJson = False) -> None:
    """List the saliency methods and sites."""
    from analysis import saliency as scoring

    units = {name: method.unit for name, method in scoring.METHODS.items()}
    if as_json:
        return print_json({"methods": units, "sites": {site.name: site.plural for site in SITES.values()}})
    table = Table("method", "score", title="Saliency methods")
    for name, unit in units.items():
        table.add_row(name, unit)
    stdout.print(table)
    stdout.print("Sites: " + ", ".join(f"{site.name} ({site.plural})" for site in SITES.values()), soft_wrap=True)


def _ablated(model: Any, concept: Any, result: Any, count: int, report: Any) -> Any:
    """Exact effects of the `count` most salient units, in the order of the table; NaN for the others."""
    from analysis.saliency import causal

    width = result.scores_LN.shape[1]
    units = [divmod(int(flat), width) for flat in result.order[:count]]
    measured: Any = causal.ablation(
        model, concept, units, site=site_named(result.site), progress=lambda share: report("Ablating", share)
    )
    return measured.signed_LN.ravel()


def _parquet(table: Any, metadata: dict[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata(
        {**(arrow.schema.metadata or {}), b"palimpsest": json.dumps(metadata).encode()}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink)
    return sink.getvalue().to_pybytes()
