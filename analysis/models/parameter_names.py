"""Maps the parameters inside a bridge to their names in plain transformers.

The bridge wraps the modules of transformers in its own, which changes every name, and adds the parts of fused
projections as further parameters: on the memory of the stored weight, or as copies that take its place.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from analysis.errors import UnsupportedArchitectureError
from analysis.models.fused import Split, splits

__all__ = ["NamedParameters", "Place", "named_parameters", "place", "plain_name"]

Place = tuple[int, tuple[int, ...]]
"""(address of a parameter's memory, its shape): unchanged when the bridge wraps the parameter."""


def place(parameter: nn.Parameter) -> Place:
    """The address and shape of a parameter, which identify it whichever module owns it."""
    return parameter.data_ptr(), tuple(parameter.shape)


def plain_name(name: str) -> str:
    """A module's or parameter's name without the bridge's insertions."""
    return name.replace("._original_component", "")


@dataclass(frozen=True)
class NamedParameters:
    """A model's parameters by name; together they are all that its forward pass reads."""

    weights: dict[str, nn.Parameter]
    """What plain transformers stores, once each, by its plain name; where the bridge runs copies of a fused projection's
    parts, these parts instead, by names of their own."""
    views: dict[str, nn.Parameter]
    """Parts of fused projections on the memory of an entry of `weights`, by names of their own."""
    splits: dict[str, Split]
    """The stored parameters whose parts are in `weights`, by their plain names."""


def named_parameters(
    inner: nn.Module, blocks: Iterable[nn.Module], names: Mapping[Place, str], model_name: str
) -> NamedParameters:
    """Name every parameter of a wrapped model.

    Args:
        inner: The transformers model after the bridge has wrapped it.
        blocks: The bridge's blocks.
        names: Names by place, taken before the bridge wrapped the model; empty to derive them from the names now.
        model_name: Name of the model, for the message.

    Raises:
        UnsupportedArchitectureError: the bridge computes with a copy of a parameter that cannot be written back.
    """
    stored: dict[str, nn.Parameter] = {}
    parts: dict[str, nn.Parameter] = {}
    for name, parameter in inner.named_parameters():
        plain = names.get(place(parameter)) if names else plain_name(name)
        if plain is None:
            parts[plain_name(name)] = parameter
        else:
            stored.setdefault(plain, parameter)
    if lost := sorted({*names.values()} - stored.keys()):
        raise UnsupportedArchitectureError(
            f"TransformerLens keeps a copy of {lost[0]} of “{model_name}”, so its weights could not be edited. "
            "Choose a model of another architecture."
        )
    divided = {split.stored: split for split in splits(blocks, model_name)}
    copies = {part for split in divided.values() for part in split.parts}
    return NamedParameters(
        weights={name: one for name, one in stored.items() if one not in divided}
        | {name: one for name, one in parts.items() if one in copies},
        views={name: one for name, one in parts.items() if one not in copies},
        splits={name: divided[one] for name, one in stored.items() if one in divided},
    )
