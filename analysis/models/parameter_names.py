"""Maps the parameters inside a bridge to their names in plain transformers.

The bridge wraps the modules of transformers in its own, which changes every name, and adds the parts of fused
projections as further parameters on the same memory.
"""

from collections.abc import Mapping

from torch import nn

from analysis.errors import UnsupportedArchitectureError

__all__ = ["Place", "place", "plain_name", "stored_parameters"]

Place = tuple[int, tuple[int, ...]]
"""(address of a parameter's memory, its shape): unchanged when the bridge wraps the parameter."""


def place(parameter: nn.Parameter) -> Place:
    """The address and shape of a parameter, which identify it whichever module owns it."""
    return parameter.data_ptr(), tuple(parameter.shape)


def plain_name(name: str) -> str:
    """A module's or parameter's name without the bridge's insertions."""
    return name.replace("._original_component", "")


def stored_parameters(inner: nn.Module, names: Mapping[Place, str], model_name: str) -> dict[str, nn.Parameter]:
    """Every parameter that plain transformers stores, once each, by its plain name.

    Args:
        inner: The transformers model after the bridge has wrapped it.
        names: Names by place, taken before the bridge wrapped the model; empty to derive them from the names now.
        model_name: Name of the model, for the message.

    Raises:
        UnsupportedArchitectureError: the bridge computes with a copy of a parameter.
    """
    found: dict[str, nn.Parameter] = {}
    for name, parameter in inner.named_parameters():
        plain = names.get(place(parameter)) if names else plain_name(name)
        if plain is not None:
            found.setdefault(plain, parameter)
    if lost := sorted({*names.values()} - found.keys()):
        raise UnsupportedArchitectureError(
            f"TransformerLens keeps a copy of {lost[0]} of “{model_name}”, so its weights could not be edited. "
            "Choose a model of another architecture."
        )
    return found
