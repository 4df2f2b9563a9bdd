"""Writes saliency tables as CSV, Parquet or JSON, with units, settings and provenance inside the file."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.components.sites import site_named
from analysis.errors import ConfigError
from analysis.saliency import Saliency

__all__ = ["FORMATS", "saliency_table", "table_bytes"]

FORMATS = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet", "json": "application/json"}
"""File ending -> media type."""


def saliency_table(result: Saliency, effects: Saliency | None = None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a table of every measured unit, strongest first, and its metadata.

    The table has name (`L5.N123`), hook, layer, index, score, place (1 = most salient) and rank_saliency; if the method
    has them, also signed, low and high (95% interval of signed), p and q; if `effects` (of exact ablation) are given,
    also ablation_effect and ablation_error.

    Returns:
        The table, and a dictionary with columns (meaning and unit of each), concept, method and provenance.
    """
    site = site_named(result.site)
    table = result.table()
    short = result.unit.split(":")[0]
    columns = {
        "name": f"the {site.unit}",
        "hook": "TransformerLens' hook and the index in it",
        "layer": "counted from 0",
        "index": f"{site.unit} in its layer, counted from 0",
        "score": result.unit,
        "place": "1 = most salient of the model",
        "rank_saliency": "1 = top, 0 = bottom, in bins of 100 places (Lo, Cohen & Barez 2024)",
    }
    table.insert(0, "name", [site.label(layer, unit) for layer, unit in zip(table["layer"], table["neuron"])])
    table.insert(1, "hook", [f"{site.hook(layer)}[{unit}]" for layer, unit in zip(table["layer"], table["neuron"])])
    table["place"] = table["rank"] + 1
    if "signed" in table:
        columns["signed"] = f"{short}: the score with its sign"
    if result.standard_error_LN is not None:
        low_LN, high_LN = result.interval()
        table["low"], table["high"] = low_LN.ravel(), high_LN.ravel()
        independent = f"over {result.n_independent} independent sentences or facts"
        columns |= {
            "low": f"{short}: lower end of the 95% interval of signed, {independent}",
            "high": f"{short}: upper end of the 95% interval of signed, {independent}",
            "p": f"two-sided, signed = 0, {independent}",
            "q": "false-discovery rate at which the unit still passes (Benjamini & Hochberg 1995)",
        }
    if effects is not None and effects.signed_LN is not None and effects.standard_error_LN is not None:
        table["ablation_effect"] = effects.signed_LN.ravel()
        table["ablation_error"] = effects.standard_error_LN.ravel()
        columns |= {
            "ablation_effect": "nats of log P(answer) lost when the activation is set to zero",
            "ablation_error": f"nats: standard error over {effects.n_independent} sentences or facts",
        }
    table = table.rename(columns={"neuron": "index"}).sort_values(by="place", ignore_index=True)
    metadata = {
        "concept": result.concept,
        "method": result.method,
        "site": result.site,
        "concept_tokens_or_examples": result.n_concept_tokens,
        "other_tokens": result.n_other_tokens,
        "columns": columns,
        "provenance": result.provenance,
    }
    return table.loc[np.isfinite(table["score"].to_numpy()), list(columns)], metadata


def table_bytes(table: pd.DataFrame, form: str, metadata: Mapping[str, Any]) -> bytes:
    """Return the content of a file with the table and its metadata.

    CSV begins with one line `# {…}` that holds the metadata as JSON: read it with `pandas.read_csv(path, skiprows=1)`.
    Parquet holds it under the key `palimpsest` of the schema's metadata, JSON beside the rows.

    Raises:
        ConfigError: `form` is none of `FORMATS`.
    """
    if form not in FORMATS:
        raise ConfigError(f"“{form}” is no format of a table. Use {', '.join(FORMATS)}.")
    about = json.dumps(metadata, ensure_ascii=False, default=str)
    if form == "csv":
        return f"# {about}\n{table.to_csv(index=False)}".encode()
    if form == "json":
        return f'{{"about": {about}, "rows": {table.to_json(orient="records", double_precision=15)}}}'.encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), b"palimpsest": about.encode()})
    sink = io.BytesIO()
    pq.write_table(arrow, sink)
    return sink.getvalue()
