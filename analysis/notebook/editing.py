"""Describes edits in one line: prune or reverse components, or any method by name with its settings."""

from typing import Annotated, Any, Literal

from analysis.checks import Expected, Range, Seed, checked
from analysis.components.circuit import Circuit
from analysis.components.neurons import NeuronSet
from analysis.edits import ComponentEdit, Edit, Selection, from_settings
from analysis.errors import ConfigError

__all__ = ["GivenEdit", "edit", "prune", "reverse"]

GivenEdit = Annotated[Edit, Expected("an edit (from prune, reverse or analysis.edit)")]
Components = Annotated[
    str | NeuronSet | Circuit,
    Expected("names in one text, such as “L5.N123, L7.H3”, a set of neurons, or a circuit"),
]
Count = Annotated[int, Range(least=1)]
Share = Annotated[float, Range(above=0, most=1)]


@checked
def prune(
    *,
    top: Count | None = None,
    share: Share | None = None,
    by: str = "probeless",
    components: Components | None = None,
    fill: Literal["zero", "mean"] = "zero",
    hold: bool = True,
    control: Literal["none", "random", "layer_matched"] = "none",
    seed: Seed = 0,
) -> ComponentEdit:
    """Describe the edit that prunes components; pass it to `relearn` or `remove` to apply it to a copy of a model.

    Give exactly one of `top`, `share` and `components`.

    Args:
        top: The k most salient neurons.
        share: The most salient share of all neurons (0.01 = 1%).
        by: Saliency method that ranks the neurons.
        components: Names such as "L5.N123, L7.H3, L9.MLP", a set of neurons (`SaliencyScores.top`), or a circuit.
        fill: The value that replaces an activation: zero, or its mean over text (mean ablation).
        hold: Keep pruned weights at zero through later training.
        control: Prune the same number of random components instead, from the whole model or from the same layers.
        seed: Seed of the random components.

    Raises:
        ConfigError: not exactly one of the three is given, or a value is out of range.
    """
    return ComponentEdit(
        kind="prune", fill=fill, hold=hold, selection=_selection(top, share, by, components, control, seed)
    )


@checked
def reverse(
    *,
    top: Count | None = None,
    share: Share | None = None,
    by: str = "probeless",
    components: Components | None = None,
    control: Literal["none", "random", "layer_matched"] = "none",
    seed: Seed = 0,
) -> ComponentEdit:
    """Describe the edit that negates what components write to the residual stream; arguments as for `prune`."""
    return ComponentEdit(kind="reverse", selection=_selection(top, share, by, components, control, seed))


@checked
def edit(method: str, **settings: Any) -> Edit:
    """Describe an edit by method: `edit("npo", learning_rate=1e-5)`; `palimpsest edits` lists methods and settings.

    Raises:
        ConfigError: the method or a setting is unknown, or a value is invalid.
    """
    return from_settings(method, settings)


def _selection(
    top: int | None, share: float | None, by: str, components: Components | None, control: Any, seed: int
) -> Selection:
    given = {"top": top, "share": share, "components": components}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ConfigError(f"Give exactly one of top, share and components, not {' and '.join(named) or 'none'}.")
    chosen = {"method": by, "control": control, "seed": seed}
    if top is not None:
        return Selection(rule="top_k", value=top, **chosen)
    if share is not None:
        return Selection(rule="top_fraction", value=share, **chosen)
    assert components is not None  # the one that is given
    text = components if isinstance(components, str) else components.format()
    return Selection(rule="explicit", value=0.0, components=text, **chosen)
