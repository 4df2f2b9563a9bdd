"""Names and sets of MLP neurons: `L5.N123` is neuron 123 of `blocks.5.mlp.hook_post`, both counted from 0.

Axes: `L` layer, `N` neuron in a layer. A flat index is `layer * n_neurons + neuron`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from analysis.components.names import parse_name, split_names
from analysis.components.sites import MLP
from analysis.errors import EditError

__all__ = ["Neuron", "NeuronSet", "hook_name"]


def hook_name(layer: int) -> str:
    """TransformerLens' name of the hook that sees the neurons of `layer`."""
    return MLP.hook(layer)


@dataclass(frozen=True, order=True)
class Neuron:
    """One MLP neuron."""

    layer: int
    index: int

    def __str__(self) -> str:
        return MLP.label(self.layer, self.index)

    @property
    def hook(self) -> str:
        return f"{hook_name(self.layer)}[{self.index}]"


class NeuronSet:
    """An immutable set of neurons of a model with `shape = (n_layers, n_neurons)`, kept as sorted flat indices."""

    def __init__(self, flat: Iterable[int] | np.ndarray, shape: tuple[int, int]):
        indices = np.unique(np.asarray(list(flat) if not isinstance(flat, np.ndarray) else flat, dtype=np.int64))
        if indices.size and (indices[0] < 0 or indices[-1] >= shape[0] * shape[1]):
            raise EditError(f"A neuron lies outside the model, which has {shape[0]} layers of {shape[1]} neurons.")
        indices.setflags(write=False)
        self.flat = indices
        self.shape = (int(shape[0]), int(shape[1]))

    @classmethod
    def from_mask(cls, mask_LN: np.ndarray) -> "NeuronSet":
        return cls(np.flatnonzero(mask_LN), (mask_LN.shape[0], mask_LN.shape[1]))

    @classmethod
    def parse(cls, text: str, shape: tuple[int, int]) -> "NeuronSet":
        """Read `L5.N123, L7.N9`; hook names with an index (`blocks.5.mlp.hook_post[123]`) work too.

        Raises:
            EditError: a name is not understood or lies outside the model.
        """
        flat = []
        for name in split_names(text):
            found = parse_name(name)
            if found is None or found.site != MLP:
                raise EditError(f"“{name}” is not a neuron. Write L5.N123 or blocks.5.mlp.hook_post[123].")
            if found.layer >= shape[0] or found.index >= shape[1]:
                raise EditError(
                    f"{name} lies outside the model: layers are 0 to {shape[0] - 1}, neurons 0 to {shape[1] - 1}."
                )
            flat.append(found.layer * shape[1] + found.index)
        return cls(flat, shape)

    def __len__(self) -> int:
        return int(self.flat.size)

    def __iter__(self) -> Iterator[Neuron]:
        for flat in self.flat.tolist():
            yield Neuron(*divmod(flat, self.shape[1]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NeuronSet) and self.shape == other.shape and np.array_equal(self.flat, other.flat)

    def __hash__(self) -> int:
        return hash((self.shape, self.flat.tobytes()))

    def __repr__(self) -> str:
        return f"NeuronSet({len(self)} of {self.shape[0]} x {self.shape[1]})"

    def mask(self) -> np.ndarray:
        """Boolean array of shape [L, N]."""
        mask = np.zeros(self.shape[0] * self.shape[1], dtype=bool)
        mask[self.flat] = True
        return mask.reshape(self.shape)

    def by_layer(self) -> dict[int, np.ndarray]:
        """Neuron indices by layer, ascending; layers without any are absent."""
        layers, indices = np.divmod(self.flat, self.shape[1])
        return {int(layer): indices[layers == layer] for layer in np.unique(layers)}

    def counts(self) -> np.ndarray:
        """Number of neurons in each layer, shape [L]."""
        return np.bincount(self.flat // self.shape[1], minlength=self.shape[0])

    def format(self) -> str:
        """The names as `parse` reads them: `L5.N123, L7.N9`."""
        return ", ".join(str(neuron) for neuron in self)
