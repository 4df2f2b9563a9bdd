"""Selects the components of an edit: the most salient ones, a list of names, or random ones as a control."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.checks import Seed, check_fields
from analysis.components.circuit import Circuit, Component, Shape
from analysis.components.names import split_names
from analysis.components.neurons import NeuronSet
from analysis.errors import ConfigError, EditError
from analysis.saliency import METHODS, Saliency, check_method
from analysis.saliency.carriers import CARRIER_SHARE, carrier_count
from analysis.training.slices import Head

__all__ = ["CONTROLS", "RULES", "Selection", "named_components", "short_list"]

Rule = Literal["top_fraction", "top_k", "threshold", "explicit"]
Control = Literal["none", "random", "layer_matched"]

RULES: dict[str, str] = {
    "top_fraction": "the most salient share of all neurons",
    "top_k": "the k most salient neurons",
    "threshold": "every neuron with at least this score",
    "explicit": "a list of neurons, attention heads and MLP layers, such as L5.N123, L7.H3, L9.MLP",
}
CONTROLS: dict[str, str] = {
    "none": "the chosen components themselves",
    "random": "as many others of the same kind, drawn uniformly from the whole model",
    "layer_matched": "as many others of the same kind, drawn from the same layers",
}
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A rule that chooses components of a model."""

    rule: Rule = "top_fraction"
    """One of `RULES`."""
    value: float = CARRIER_SHARE
    """Share (0 to 1), k or score, depending on the rule; unused for an explicit list."""
    components: str = ""
    """The explicit list."""
    method: str = "probeless"
    """Saliency method that ranks the neurons."""
    control: Control = "none"
    """One of `CONTROLS`: replace the chosen components by random ones."""
    seed: Seed = 0
    """Seed of a random control."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_method(self.method)
        if METHODS[self.method].needs_units:
            title = METHODS[self.method].title.capitalize()
            raise ConfigError(f"{title} scores a short list, so nothing can be ranked by it. Choose another method.")
        if self.rule == "top_fraction" and not 0 < self.value <= 1:
            raise ConfigError(f"The share of neurons is {self.value:g}; it must be above 0 and at most 1 (0.01 = 1%).")
        if self.rule == "top_k" and not (self.value >= 1 and self.value == int(self.value)):
            raise ConfigError(f"k is {self.value:g}; it must be a whole number of at least 1.")
        if self.rule == "explicit":
            named_components(self.components)

    def select(self, saliency: Saliency | None, shape: Shape) -> tuple[NeuronSet, tuple[Head, ...]]:
        """Return the chosen neurons, including those of whole MLP layers, and the chosen heads.

        Raises:
            EditError: nothing is selected, or there are too few other components for a control.
        """
        mlps: tuple[int, ...] = ()
        heads: tuple[Head, ...] = ()
        if self.rule == "explicit":
            circuit = Circuit.parse(self.components, shape)
            neurons, mlps, heads = circuit.only("neuron").neurons, circuit.mlp_layers, circuit.heads
        else:
            neurons = self._salient(saliency, shape)
        if self.control != "none":
            neurons, mlps, heads = self._others(neurons, mlps, heads, shape)
        return NeuronSet.from_mask(neurons.mask() | _mlp_mask(mlps, shape)), heads

    def describe(self) -> str:
        """One phrase for captions."""
        if self.rule == "explicit":
            what = short_list(self.components)
        elif self.rule == "threshold":
            what = f"{self.method} of at least {self.value:g}"
        else:
            what = f"top {self.value:{'.2%' if self.rule == 'top_fraction' else 'g'}} by {self.method}"
        suffix = {"none": "", "random": ", random control", "layer_matched": ", layer-matched random control"}
        return what + suffix[self.control]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Selection":
        """Rebuild from `dataclasses.asdict`. Old files call the list `neurons`; it then held only neurons.

        Raises:
            ConfigError: a field is unknown or out of range.
        """
        try:
            fields = {"components" if name == "neurons" else name: value for name, value in data.items()}
            return cls(**fields)
        except (AttributeError, TypeError) as error:
            raise ConfigError(f"This is no selection ({error}).") from error

    def _salient(self, saliency: Saliency | None, shape: Shape) -> NeuronSet:
        if saliency is None:
            raise EditError(f"Selecting by {self.rule} needs saliency scores.")
        if self.rule == "threshold":
            chosen = NeuronSet(np.flatnonzero(saliency.scores_LN >= self.value), shape.neurons)
        else:
            total = saliency.scores_LN.size
            k = int(self.value) if self.rule == "top_k" else carrier_count(total, self.value)
            if k > total:
                raise EditError(f"k is {k:,}, but the model has only {total:,} neurons.")
            chosen = NeuronSet(saliency.order[:k], shape.neurons)
        if not len(chosen):
            highest = saliency.scores_LN.max()
            raise EditError(f"The selection is empty. The highest score is {highest:.3g}. Lower the threshold.")
        return chosen

    def _others(
        self, neurons: NeuronSet, mlps: tuple[int, ...], heads: tuple[Head, ...], shape: Shape
    ) -> tuple[NeuronSet, tuple[int, ...], tuple[Head, ...]]:
        """Draw as many components of each kind at random; none of them overlaps a chosen one."""
        if mlps and self.control == "layer_matched":
            raise EditError(
                "An MLP layer has no other MLP in its layer, so there is no layer-matched control. Use a random one."
            )
        generator = np.random.default_rng(self.seed)
        taken = neurons.mask() | _mlp_mask(mlps, shape)
        others = tuple(_draw(generator, np.flatnonzero(~taken.any(1)), len(mlps), "MLP layers").tolist())
        # a listed neuron of a listed MLP layer is already replaced with that layer
        single = NeuronSet.from_mask(neurons.mask() & ~_mlp_mask(mlps, shape))
        drawn = self._draw_units(generator, single, ~(taken | _mlp_mask(others, shape)), "neurons")
        flat = NeuronSet([layer * shape.n_heads + head for layer, head in heads], (shape.n_layers, shape.n_heads))
        drawn_heads = self._draw_units(generator, flat, ~flat.mask(), "heads")
        return drawn, others, tuple((one.layer, one.index) for one in drawn_heads)

    def _draw_units(self, generator: np.random.Generator, chosen: NeuronSet, free: np.ndarray, what: str) -> NeuronSet:
        """Draw as many free units (neurons or heads, by flat index) as are chosen, from all layers or layer by layer."""
        if self.control == "random":
            pools = [(np.flatnonzero(free), len(chosen))]
        else:
            width = chosen.shape[1]
            pools = [(np.flatnonzero(free[l]) + l * width, len(n)) for l, n in chosen.by_layer().items()]
        drawn = [index for pool, count in pools for index in _draw(generator, pool, count, what).tolist()]
        return NeuronSet(drawn, chosen.shape)


def named_components(text: str) -> tuple[Component, ...]:
    """Parse a list such as `L5.N123, L7.H3, L9.MLP` into components, each once.

    Raises:
        ConfigError: the list is empty, or a name is not understood.
    """
    if not isinstance(text, str):
        raise ConfigError("The list of components must be a text such as L5.N123, L7.H3, L9.MLP.")
    names = split_names(text)
    if not names:
        raise ConfigError("The list of components is empty. Write for example L5.N123, L7.H3, L9.MLP.")
    try:
        return tuple(dict.fromkeys(Component.parse(name) for name in names))
    except EditError as error:
        raise ConfigError(str(error)) from error


def short_list(text: str) -> str:
    """Shorten a list of components for captions: their names, or their number if there are many."""
    parts = named_components(text)
    return ", ".join(map(str, parts)) if len(parts) <= _SHOWN else f"{len(parts):,} listed components"


def _draw(generator: np.random.Generator, pool: np.ndarray, count: int, what: str) -> np.ndarray:
    if count > pool.size:
        raise EditError(
            f"The control needs {count:,} other {what}, but there are too few others: {pool.size:,}. Select fewer."
        )
    return generator.choice(pool, count, replace=False) if count else pool[:0]


def _mlp_mask(layers: Iterable[int], shape: Shape) -> np.ndarray:
    """Boolean [L, N]: all neurons of these layers."""
    mask = np.zeros(shape.neurons, dtype=bool)
    mask[list(layers)] = True
    return mask
