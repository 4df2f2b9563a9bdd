"""Circuits: sets of a model's components, with the effect that a localization method measured for each.

A *component* is an attention head (`L5.H3`), a whole MLP layer (`L5.MLP`) or a single MLP neuron (`L5.N123`), counted
from 0. Localization methods return an effect for every component they measured (`EffectMap`); a `Circuit` holds the
components chosen from it. Edits and training accept a circuit wherever they accept neurons.

Axes: `L` layer, `H` attention head, `N` neuron in a layer.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.components.names import parse_name, split_names
from analysis.components.neurons import NeuronSet
from analysis.components.sites import HEADS, MLP, Site
from analysis.errors import ConfigError, EditError

__all__ = ["Circuit", "Component", "EffectMap", "Shape"]

Kind = Literal["head", "mlp", "neuron"]
_KINDS: dict[Site | None, Kind] = {None: "mlp", MLP: "neuron", HEADS: "head"}


@dataclass(frozen=True)
class Shape:
    """How many components of each kind a model has."""

    n_layers: int
    n_heads: int
    n_neurons: int
    """Neurons in one layer."""

    @property
    def neurons(self) -> tuple[int, int]:
        return self.n_layers, self.n_neurons


@dataclass(frozen=True, order=True)
class Component:
    """One attention head, MLP layer or MLP neuron."""

    layer: int
    kind: Kind
    index: int = 0
    """Index of the head or neuron in its layer; 0 for an MLP layer."""

    def __str__(self) -> str:
        return f"L{self.layer}.MLP" if self.kind == "mlp" else f"L{self.layer}.{self.kind[0].upper()}{self.index}"

    @classmethod
    def parse(cls, name: str) -> "Component":
        """Read `L5.H3`, `L5.MLP`, `L5.N123` or a hook name (`blocks.5.attn.hook_z[3]`, `blocks.5.mlp`).

        Raises:
            EditError: the name is not understood.
        """
        found = parse_name(name)
        if found is not None and found.site in _KINDS:
            return cls(found.layer, _KINDS[found.site], found.index)
        raise EditError(
            f"“{name}” is no component. Write L5.N123 (neuron), L5.H3 (attention head) or L5.MLP (MLP layer)."
        )


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """Chosen components of a model and their provenance; serialises to JSON."""

    shape: Shape
    components: tuple[Component, ...]
    """Without repetition, strongest effect first where effects are known."""
    effects: tuple[float, ...] = ()
    """The measured effect of each component, in `unit`; empty for circuits that were not measured."""
    method: str = "listed"
    """Name of the method that found the circuit; “listed” if the components were typed in."""
    concept: str = ""
    unit: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Model, data, metric, thresholds, seed."""

    def __post_init__(self) -> None:
        if len(set(self.components)) != len(self.components):
            raise EditError("A component appears twice in the circuit.")
        if self.effects and len(self.effects) != len(self.components):
            raise EditError(f"The circuit has {len(self.components)} components but {len(self.effects)} effects.")
        limits = {"head": self.shape.n_heads, "mlp": 1, "neuron": self.shape.n_neurons}
        for part in self.components:
            if not (0 <= part.layer < self.shape.n_layers and 0 <= part.index < limits[part.kind]):
                raise EditError(
                    f"{part} lies outside the model: layers are 0 to {self.shape.n_layers - 1}, heads 0 to "
                    f"{self.shape.n_heads - 1}, neurons 0 to {self.shape.n_neurons - 1}."
                )

    @classmethod
    def parse(cls, text: str, shape: Shape) -> "Circuit":
        """Read a list such as `L5.MLP, L7.H3, L9.N123`; a repeated name counts once.

        Raises:
            EditError: a name is not understood or lies outside the model.
        """
        parts = dict.fromkeys(Component.parse(name) for name in split_names(text))
        return cls(shape=shape, components=tuple(parts))

    def __len__(self) -> int:
        return len(self.components)

    @property
    def neurons(self) -> NeuronSet:
        """Its neurons; an MLP layer counts as all the neurons of its layer."""
        width = self.shape.n_neurons
        flat: set[int] = set()
        for part in self.components:
            if part.kind == "mlp":
                flat.update(range(part.layer * width, (part.layer + 1) * width))
            elif part.kind == "neuron":
                flat.add(part.layer * width + part.index)
        return NeuronSet(sorted(flat), self.shape.neurons)

    @property
    def heads(self) -> tuple[tuple[int, int], ...]:
        """(layer, head) of its attention heads, in ascending order."""
        return tuple(sorted((part.layer, part.index) for part in self.components if part.kind == "head"))

    @property
    def mlp_layers(self) -> tuple[int, ...]:
        """The layers whose whole MLP belongs to it."""
        return tuple(sorted(part.layer for part in self.components if part.kind == "mlp"))

    def only(self, *kinds: Kind) -> "Circuit":
        """The components of these kinds."""
        kept = [i for i, part in enumerate(self.components) if part.kind in kinds]
        effects = tuple(self.effects[i] for i in kept) if self.effects else ()
        return self._replaced(tuple(self.components[i] for i in kept), effects)

    def overlap(self, other: "Circuit") -> float:
        """Jaccard index: shared components / components of either (0 if both are empty)."""
        mine, theirs = set(self.components), set(other.components)
        return len(mine & theirs) / len(mine | theirs) if mine | theirs else 0.0

    def format(self) -> str:
        """`L5.MLP, L7.H3`: what `parse` reads."""
        return ", ".join(str(part) for part in self.components)

    def describe(self) -> str:
        """One phrase for captions: `causal tracing: 3 MLP layers, 2 heads`."""
        names = {"mlp": "MLP layer", "head": "head", "neuron": "neuron"}
        counts = {kind: sum(part.kind == kind for part in self.components) for kind in names}
        parts = [f"{n:,} {names[kind]}{'s' * (n != 1)}" for kind, n in counts.items() if n]
        return f"{self.method}: {', '.join(parts) or 'nothing'}"

    def table(self) -> pd.DataFrame:
        """One row per component: name, layer, kind, index, effect."""
        return pd.DataFrame(
            {
                "component": [str(part) for part in self.components],
                "layer": [part.layer for part in self.components],
                "kind": [part.kind for part in self.components],
                "index": [part.index for part in self.components],
                "effect": list(self.effects) or [float("nan")] * len(self),
            }
        )

    def to_json(self) -> str:
        data = asdict(self) | {"components": [str(part) for part in self.components]}
        return json.dumps(data, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Circuit":
        """Rebuild from `to_json`.

        Raises:
            ConfigError: the text is not a circuit.
        """
        try:
            data = json.loads(text)
            parts = tuple(Component.parse(name) for name in data["components"])
            fields = data | {"shape": Shape(**data["shape"]), "components": parts, "effects": tuple(data["effects"])}
            return cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"This is not a circuit ({error}). Give JSON as the export of a circuit writes it."
            ) from error

    def _replaced(self, components: tuple[Component, ...], effects: tuple[float, ...]) -> "Circuit":
        return Circuit(
            shape=self.shape,
            components=components,
            effects=effects,
            method=self.method,
            concept=self.concept,
            unit=self.unit,
            provenance=self.provenance,
        )


@dataclass(frozen=True, kw_only=True)
class EffectMap:
    """The effect of every component as a localization method measured it; NaN = not measured.

    Positive = the component supports the answer: restoring it brings the answer back, or breaking it takes it away.
    """

    shape: Shape
    mlps_L: np.ndarray
    """float64, [L]."""
    heads_LH: np.ndarray
    """float64, [L, H]."""
    neurons_LN: np.ndarray | None = None
    """float64, [L, N]; None if the method does not measure single neurons."""
    method: str
    concept: str
    unit: str
    n_prompts: int
    provenance: dict[str, Any] = field(default_factory=dict)

    def circuit(
        self, *, top: int | None = None, threshold: float | None = None, kinds: Iterable[Kind] = ("head", "mlp")
    ) -> Circuit:
        """The components of the largest |effect|: the `top` ones, those of at least `threshold`, or both.

        Raises:
            ConfigError: neither is given, or `top` is below 1.
            EditError: nothing is left.
        """
        if top is None and threshold is None:
            raise ConfigError("Give the number of components, a threshold, or both.")
        if top is not None and top < 1:
            raise ConfigError(f"The number of components is {top}; it must be at least 1.")
        ranked = self.ranked(kinds)
        chosen = [(part, effect) for part, effect in ranked.items() if threshold is None or abs(effect) >= threshold]
        chosen = chosen[:top]
        if not chosen:
            highest = max((abs(effect) for effect in ranked.values()), default=0.0)
            raise EditError(
                f"No component reaches {threshold or 0:g}: the strongest has {highest:.3g}. Lower the threshold, or choose "
                "other kinds of components."
            )
        return Circuit(
            shape=self.shape,
            components=tuple(part for part, _ in chosen),
            effects=tuple(float(effect) for _, effect in chosen),
            method=self.method,
            concept=self.concept,
            unit=self.unit,
            provenance=self.provenance | {"top": top, "threshold": threshold, "kinds": list(kinds)},
        )

    def ranked(self, kinds: Iterable[Kind] = ("head", "mlp")) -> Mapping[Component, float]:
        """Every measured component of these kinds with its effect, largest |effect| first."""
        grids = {"head": self.heads_LH, "mlp": self.mlps_L[:, None], "neuron": self.neurons_LN}
        parts: list[tuple[Component, float]] = []
        for kind in kinds:
            grid = grids[kind]
            if grid is None:
                raise ConfigError(f"{self.method} measured no single neurons.")
            for layer, index in np.argwhere(np.isfinite(grid)).tolist():
                parts.append((Component(layer, kind, index), float(grid[layer, index])))
        return dict(sorted(parts, key=lambda pair: -abs(pair[1])))

    def table(self) -> pd.DataFrame:
        """One row per component (heads and MLP layers): name, layer, kind, index, effect."""
        ranked = self.ranked()
        return pd.DataFrame(
            {
                "component": [str(part) for part in ranked],
                "layer": [part.layer for part in ranked],
                "kind": [part.kind for part in ranked],
                "index": [part.index for part in ranked],
                "effect": list(ranked.values()),
            }
        )
