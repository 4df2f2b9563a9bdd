"""Saliency scores of one concept by one method, with their table, their map and their strongest units.

Axes: `L` layer, `N` unit in a layer (neuron, residual dimension, head).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import figures, paths, saliency
from analysis.checks import Range, Seed, checked
from analysis.components.neurons import NeuronSet
from analysis.components.sites import HEADS, MLP, site_named
from analysis.errors import ConfigError
from analysis.notebook.html import table_html
from analysis.notebook.loading import GivenConcept, GivenModel, as_concept
from analysis.notebook.progress import shown_progress
from analysis.saliency import METHODS, Saliency
from analysis.saliency.tables import FORMATS, saliency_table, table_bytes

__all__ = ["SaliencyScores", "measure_saliency"]


@dataclass(frozen=True, repr=False)
class SaliencyScores:
    """How strongly each unit of a model carries a concept, by one method."""

    result: Saliency
    """The numbers with their standard errors and provenance, as the other rooms use them."""

    @property
    def scores(self) -> np.ndarray:
        """float64 [L, N] in `unit`; higher = carries the concept more strongly, NaN = not measured."""
        return self.result.scores_LN

    @property
    def unit(self) -> str:
        """What a score is."""
        return self.result.unit

    @checked
    def table(self, top: Annotated[int, Range(least=1)] | None = None) -> pd.DataFrame:
        """One row a unit, strongest first: name, hook, layer, index, score, place, and what the method has of signed
        score, 95% interval, p and q (`saliency.tables.saliency_table`).

        Args:
            top: Only so many rows.
        """
        table, _ = saliency_table(self.result)
        return table if top is None else table.head(top)

    @checked
    def figure(self, top: Annotated[int, Range(least=0)] = 0) -> go.Figure:
        """The map of layers and units.

        Args:
            top: Mark so many of the strongest.
        """
        site = site_named(self.result.site)
        marked = self._strongest(top) if top else None
        figure = figures.saliency_map(self.scores, METHODS[self.result.method].short_unit, selected=marked, site=site)
        title = f"{self.result.concept}: {METHODS[self.result.method].title}"
        return figure.update_layout(title={"text": title}, margin={"t": 60})

    @checked
    def top(self, k: Annotated[int, Range(least=1)]) -> NeuronSet | str:
        """The k strongest units, as `prune` and `reverse` take them: a set of neurons, or names of attention heads.

        Raises:
            ConfigError: k is below 1, or more than were measured; or the units are residual dimensions, which no edit of
                components can prune.
        """
        chosen, site = self._strongest(k), site_named(self.result.site)
        if site == MLP:
            return chosen
        if site == HEADS:
            return ", ".join(site.label(neuron.layer, neuron.index) for neuron in chosen)
        raise ConfigError(f"A {site.unit} has no weights of its own that could be pruned. Measure neurons or heads.")

    def _strongest(self, k: int) -> NeuronSet:
        """The k strongest units of whatever site, as flat indices."""
        if not 1 <= k <= self.result.n_measured:
            raise ConfigError(f"Take 1 to {self.result.n_measured:,} units, not {k:,}.")
        n_layers, width = self.scores.shape
        return NeuronSet(self.result.order[:k], (n_layers, width))

    @checked
    def save(self, path: str | Path) -> Path:
        """Write the table with units and provenance inside; the ending says how: .csv, .parquet or .json.

        Raises:
            ConfigError: another ending, or the file cannot be written.
        """
        path = paths.expanded(path)
        form = path.suffix.lstrip(".")
        if form not in FORMATS:
            raise ConfigError(f"“{path.name}” has an unknown ending. Use .{', .'.join(FORMATS)}.")
        table, metadata = saliency_table(self.result)
        try:
            paths.write_atomically(path, table_bytes(table, form, metadata))
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error.strerror}). Name another file.") from error
        return path

    def __repr__(self) -> str:
        n_layers, width = self.scores.shape
        return f"SaliencyScores({self.result.concept} by {self.result.method}, {n_layers} layers x {width:,} units)"

    def _repr_html_(self) -> str:
        return table_html(self.table(10), f"{self!r}: the ten strongest", note=f"score: {self.unit}")


@checked
def measure_saliency(
    model: GivenModel,
    concept: GivenConcept,
    method: str = "standardised",
    *,
    site: str = MLP.name,
    seed: Seed = 0,
    progress: bool = True,
) -> SaliencyScores:
    """Score every unit of a model for a concept.

    Args:
        model: Is only read.
        concept: A concept, or what `load_concept` takes.
        method: A key of `saliency.METHODS`, such as probeless, standardised or attribution_patching.
        site: Where to look: mlp.hook_post (neurons), hook_resid_post (residual dimensions) or attn.hook_z (heads).
        seed: Draws the token sample, the probe's folds and the prompts.
        progress: Whether to draw a bar.

    Raises:
        ConfigError: the method or the site is unknown, or the method makes no sense there.
        ConceptError: the concept has nothing that can be measured.
    """
    concept = as_concept(concept)
    with shown_progress(f"{concept.name} by {method}", shown=progress) as tell:
        tell("measuring", 0.0)
        (result,) = saliency.measure(model, [concept], methods=[method], site=site_named(site), seed=seed)
    return SaliencyScores(result)
