"""Finds the components that a concept's facts depend on, by one method; gives them as a table and a map."""

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
import plotly.graph_objects as go

from analysis.checks import Range, Seed, checked
from analysis.components.circuit import Circuit
from analysis.errors import ConfigError
from analysis.figures.circuits import circuit_map
from analysis.localization import Localization, localize
from analysis.notebook.html import table_html
from analysis.notebook.loading import GivenConcept, GivenModel, as_concept
from analysis.notebook.progress import shown_progress

__all__ = ["FoundCircuit", "find_circuit"]


@dataclass(frozen=True, repr=False)
class FoundCircuit:
    """A circuit, and the effects by which its components were chosen."""

    result: Localization
    """The full result of `localization.localize`."""

    @property
    def circuit(self) -> Circuit:
        """The chosen components, as `prune(components=...)` and `relearn(train_only=...)` take them."""
        return self.result.circuit

    def table(self) -> pd.DataFrame:
        """The chosen components, strongest first, with their effects."""
        return self.circuit.table()

    def figure(self) -> go.Figure:
        """Map with layers as rows, heads and MLP as columns; chosen components are outlined."""
        return circuit_map(self.circuit, self.result.effects)

    def __repr__(self) -> str:
        return f"FoundCircuit({self.circuit.describe()})"

    def _repr_html_(self) -> str:
        return table_html(self.table(), self.circuit.describe(), note=f"effect: {self.circuit.unit}")


@checked
def find_circuit(
    model: GivenModel,
    concept: GivenConcept,
    method: str = "attribution_patching",
    *,
    top: Annotated[int, Range(least=1)] = 10,
    seed: Seed = 0,
    progress: bool = True,
    **settings: Any,
) -> FoundCircuit:
    """Find the components that a concept's facts depend on.

    Args:
        model: The model; not changed.
        concept: A concept with facts, or its name or path (`load_concept`).
        method: A key of `localization.METHODS`, such as activation_patching, causal_tracing or direct_effects.
        top: Number of components to choose.
        seed: Seed of the prompts and corruptions.
        progress: Whether to draw a bar.
        settings: Further arguments of `localization.localize`.

    Raises:
        ConfigError: the method or a setting is unknown.
        ConceptError: the model knows too few of the facts.
    """
    concept = as_concept(concept)
    if unknown := settings.keys() - inspect.signature(localize).parameters.keys():
        raise ConfigError(f"“{min(unknown)}” is not a setting of a localization. See analysis.localization.localize.")
    with shown_progress(f"{concept.name} by {method}", shown=progress) as tell:
        return FoundCircuit(localize(model, concept, method, top=top, seed=seed, progress=tell, **settings))
