"""Makes control circuits (random components, random or all MLP layers, everything) and measures overlap of circuits.

Guo et al. 2024 match the number of parameters of every localization, so that edits do not differ merely in size. Whole
components can match a number only approximately, so the number reached is reported.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import hypergeom

from analysis.components.circuit import Circuit, Component, EffectMap, Kind
from analysis.edits import n_parameters
from analysis.errors import ConfigError
from analysis.localization.patching import all_components
from analysis.models import LanguageModel

__all__ = ["CONTROLS", "control", "matched", "overlap_table"]

CONTROLS: dict[str, str] = {
    "random_components": "heads and MLP layers drawn at random, as many parameters as the matched circuit",
    "random_mlps": "MLP layers drawn at random, as many parameters as the matched circuit",
    "all_mlps": "every MLP layer",
    "everything": "every MLP layer and attention head (nonlocalized)",
}


def control(model: LanguageModel, name: str, *, match: Circuit | None = None, seed: int = 0) -> Circuit:
    """Make a control circuit.

    Args:
        model: The model.
        name: One of `CONTROLS`.
        match: The circuit whose number of parameters a random control matches.
        seed: Draws the components.

    Raises:
        ConfigError: the control is unknown, or a random one has no circuit to match.
    """
    if name not in CONTROLS:
        raise ConfigError(f"“{name}” is no control. Use {', '.join(CONTROLS)}.")
    everything = all_components(model)
    mlps = tuple(part for part in everything if part.kind == "mlp")
    if name in ("all_mlps", "everything"):
        return _circuit(model, everything if name == "everything" else mlps, name, match, {})
    if match is None or not len(match):
        raise ConfigError("A random control takes its size from a circuit. Give one that is not empty.")
    pool = everything if name == "random_components" else mlps
    random = np.random.default_rng(seed)
    order = [pool[i] for i in random.permutation(len(pool))]
    chosen = _fill(model, order, n_parameters(model, match))
    return _circuit(model, chosen, name, match, {"seed": seed})


def matched(
    model: LanguageModel, effects: EffectMap, target: int, *, kinds: Sequence[Kind] = ("head", "mlp")
) -> Circuit:
    """Choose the strongest components, as many as together come closest to `target` parameters (at least one)."""
    ranked = list(effects.ranked(kinds))
    if not ranked:
        raise ConfigError(f"{effects.method} measured none of: {', '.join(kinds)}. Choose other kinds of components.")
    sizes = np.cumsum(_sizes(model, ranked))
    count = int(np.abs(sizes - target).argmin()) + 1
    circuit = effects.circuit(top=count, kinds=kinds)
    reached = {"parameters": n_parameters(model, circuit), "parameters_wanted": target}
    return Circuit(
        shape=circuit.shape,
        components=circuit.components,
        effects=circuit.effects,
        method=circuit.method,
        concept=circuit.concept,
        unit=circuit.unit,
        provenance=circuit.provenance | reached,
    )


def overlap_table(circuits: Mapping[str, Circuit]) -> pd.DataFrame:
    """Tabulate the overlap of every two circuits.

    One row per pair: a, b, components (Jaccard index), mlp_layers (Jaccard index of whole MLP layers; NaN if neither has
    one), mlp_layers_by_chance (its expectation if both had drawn their MLP layers at random).
    """
    rows = []
    for (a, first), (b, second) in combinations(circuits.items(), 2):
        mine, theirs = set(first.mlp_layers), set(second.mlp_layers)
        union = len(mine | theirs)
        rows.append(
            {
                "a": a,
                "b": b,
                "components": first.overlap(second),
                "mlp_layers": len(mine & theirs) / union if union else float("nan"),
                "mlp_layers_by_chance": _jaccard_by_chance(first.shape.n_layers, len(mine), len(theirs)),
            }
        )
    return pd.DataFrame(rows, columns=["a", "b", "components", "mlp_layers", "mlp_layers_by_chance"])


def _fill(model: LanguageModel, order: Sequence[Component], target: int) -> tuple[Component, ...]:
    """Take components in order, skipping those that would exceed the target; add one more if that is closer to it."""
    sizes = dict(zip(order, _sizes(model, order)))
    chosen: list[Component] = []
    total = 0
    for part in order:
        if total + sizes[part] <= target:
            chosen.append(part)
            total += sizes[part]
    left = [part for part in order if part not in chosen]
    if left:
        nearest = min(left, key=lambda part: abs(total + sizes[part] - target))
        if not chosen or abs(total + sizes[nearest] - target) < target - total:
            chosen.append(nearest)
    return tuple(chosen)


def _sizes(model: LanguageModel, parts: Sequence[Component]) -> list[int]:
    """Number of parameters of each component, computed once per layer and kind."""
    examples = {(part.layer, part.kind): part for part in parts}
    shape = model.component_shape
    found = {key: n_parameters(model, Circuit(shape=shape, components=(part,))) for key, part in examples.items()}
    return [found[part.layer, part.kind] for part in parts]


def _circuit(
    model: LanguageModel, parts: tuple[Component, ...], name: str, match: Circuit | None, details: dict
) -> Circuit:
    circuit = Circuit(
        shape=model.component_shape,
        components=parts,
        method=name.replace("_", " "),
        concept="" if match is None else match.concept,
    )
    found = {
        "model": model.name,
        "parameters": n_parameters(model, circuit),
        "parameters_wanted": None if match is None or not details else n_parameters(model, match),
        "matches": None if match is None else match.describe(),
    }
    return Circuit(
        shape=circuit.shape,
        components=parts,
        method=circuit.method,
        concept=circuit.concept,
        provenance=found | details,
    )


def _jaccard_by_chance(n: int, a: int, b: int) -> float:
    """Expected Jaccard index of two random sets of `a` and `b` of `n` layers."""
    if not a + b:
        return float("nan")
    shared = np.arange(max(0, a + b - n), min(a, b) + 1)
    return float((hypergeom.pmf(shared, n, a, b) * shared / (a + b - shared)).sum())
