"""Names of parameters and modules as plain transformers spells them, found again inside a bridge.

The bridge puts its own modules around those of transformers, which changes every name, and adds the parts of fused
projections as further parameters on the same memory.
"""

from collections.abc import Mapping

from torch import nn

from analysis.errors import UnsupportedArchitectureError

__all__ = ["Place", "place", "plain_name", "stored_parameters"]

Place = tuple[int, tuple[int, ...]]
"""Where a parameter's memory begins, and its shape: the same before and after the bridge wraps it."""


def place(parameter: nn.Parameter) -> Place:
    """Identifies a parameter whatever module it hangs on."""
    return parameter.data_ptr(), tuple(parameter.shape)


def plain_name(name: str) -> str:
    """A module's or parameter's name without what the bridge put into it."""
    return name.replace("._original_component", "")


def stored_parameters(inner: nn.Module, names: Mapping[Place, str], model_name: str) -> dict[str, nn.Parameter]:
    """Every parameter that plain transformers stores, once, by its plain name.

    Args:
        inner: The transformers model as the bridge left it.
        names: Names by place, taken before the bridge wrapped the model; empty to derive them from the names now.
        model_name: For the message.

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
