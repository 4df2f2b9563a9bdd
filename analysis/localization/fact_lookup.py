"""Finds the MLP layers that look up facts about a subject (FLU, Guo et al. 2024, section 3), by probe or by paths.

By probe: the layers over which the accuracy of a probe on the subject's last token rises. By paths: the layers whose
output the answer's extraction heads read.

Axes: `R` depth row (row 0 the embedding, row l + 1 the residual stream after layer l).
"""

from dataclasses import replace

import numpy as np

from analysis.components.circuit import Circuit, Component, EffectMap, Shape
from analysis.errors import ConceptError, ConfigError, UnsupportedArchitectureError
from analysis.localization.patching import Direction
from analysis.localization.paths import Receivers, direct_effects, path_effects
from analysis.localization.probing import ProbeCurve
from analysis.models import LanguageModel
from analysis.progress import Progress, none
from analysis.scoring.contrast_pairs import Metric, PromptPairs

__all__ = ["MIN_EFFECT", "N_HEADS", "lookup_by_paths", "lookup_by_probe", "rise"]

N_HEADS = 10
"""Number of extraction heads."""
MIN_EFFECT = 0.02
"""Least |effect| of an MLP layer through the extraction heads, as a share of the clean-corrupted gap."""


def rise(accuracy_R: np.ndarray, *, start: float = 0.2, end: float = 0.95, beyond: int = 1) -> tuple[int, int]:
    """Return the first and the last row over which an accuracy curve rises.

    This is a reconstruction: the paper names the layers it chose (MLPs 2 to 7, where the accuracies of layers 0 to 6 are
    .44 .48 .63 .85 .97 .97 1.0) but no rule. Our rule: with `low` the lowest accuracy before the peak, the rise begins at
    the first row that has covered the share `start` of the climb from `low` to the peak, and ends `beyond` rows after the
    first that has covered the share `end`. The default values give the paper's layers on the paper's numbers.

    Args:
        accuracy_R: Accuracies in order of depth.
        start: Share of the climb at which the rise begins.
        end: Share of the climb at which the rise ends.
        beyond: Number of rows added after that.

    Raises:
        ConfigError: not 0 < start <= end <= 1, or `beyond` is negative.
        ConceptError: the curve does not rise.
    """
    if not (0 < start <= end <= 1 and beyond >= 0):
        raise ConfigError(
            f"start = {start:g}, end = {end:g}, beyond = {beyond}: needed are 0 < start <= end <= 1 and beyond >= 0."
        )
    values = np.asarray(accuracy_R, dtype=float)
    peak = int(values.argmax())
    low = float(values[: peak + 1].min())
    climb = float(values[peak]) - low
    if climb <= 0:
        raise ConceptError("The probe's accuracy does not rise from layer to layer, so no layer looks the facts up.")
    trough = int(values[: peak + 1].argmin())
    covered = (values[trough : peak + 1] - low) / climb
    # 1e-9: a share that is reached exactly must not fail by rounding
    first = trough + int(np.argmax(covered >= start - 1e-9))
    last = trough + int(np.argmax(covered >= end - 1e-9)) + beyond
    return first, min(last, len(values) - 1)


def lookup_by_probe(
    curve: ProbeCurve, shape: Shape, *, start: float = 0.2, end: float = 0.95, beyond: int = 1
) -> Circuit:
    """Choose the MLP layers over which the probe's accuracy rises; their effects are the accuracy each of them adds.

    Raises:
        ConfigError: a parameter is out of range (`rise`).
        ConceptError: the accuracy does not rise, or its peak is not above chance.
        UnsupportedArchitectureError: the model has a single layer.
    """
    if shape.n_layers < 2:
        raise UnsupportedArchitectureError(
            "The model has one layer; fact lookup can be located only in models with at least two."
        )
    best = int(curve.accuracy_R.argmax())
    if curve.low_R[best] <= curve.chance:
        raise ConceptError(
            f"The probe reads the answers of “{curve.concept}” at no layer better than chance (at best "
            f"{curve.accuracy_R[best]:.2f}, 95% interval from {curve.low_R[best]:.2f}, chance {curve.chance:.2f}; "
            f"{curve.n_subjects} subjects). Add facts the model knows, or use path patching."
        )
    first, last = rise(curve.accuracy_R, start=start, end=end, beyond=beyond)
    # row 0 is the embedding, which no MLP has written to
    layers = [row - 1 for row in range(max(first, 1), max(last, 1) + 1)]
    gains = np.diff(curve.accuracy_R)
    return Circuit(
        shape=shape,
        components=tuple(Component(layer, "mlp") for layer in layers),
        effects=tuple(float(gains[layer]) for layer in layers),
        method="fact lookup by probe",
        concept=curve.concept,
        unit="accuracy added by the layer",
        provenance=curve.provenance | {"kind": curve.kind, "start": start, "end": end, "beyond": beyond},
    )


def lookup_by_paths(
    model: LanguageModel,
    pairs: PromptPairs,
    *,
    metric: Metric = "logit_difference",
    direction: Direction = "break",
    receivers: Receivers = "heads",
    n_heads: int = N_HEADS,
    threshold: float = MIN_EFFECT,
    with_heads: bool = False,
    progress: Progress | None = None,
) -> tuple[EffectMap, Circuit]:
    """Find the MLP layers that write to the extraction heads.

    Args:
        model: The model.
        pairs: Guo et al. use the corruption “random”.
        metric: One of `contrast_pairs.METRICS`.
        direction: One of `patching.DIRECTIONS`.
        receivers: One of `paths.RECEIVERS`.
        n_heads: Number of extraction heads: those of the largest |direct effect|.
        threshold: Least |effect| of an MLP layer in the circuit.
        with_heads: Whether to add the extraction heads to the circuit.
        progress: Called with the share done.

    Returns:
        Effects (heads: direct effect on the output; MLP layers: effect through the extraction heads) and the circuit.

    Raises:
        ConfigError: a setting is out of range.
        ConceptError: the corruption does not weaken the answer.
        EditError: no MLP layer reaches the threshold.
        MissingHookError, UnsupportedArchitectureError: the model does not support path patching.
    """
    if model.n_layers < 2:
        raise UnsupportedArchitectureError(
            f"“{model.name}” has one layer, so no MLP layer can write to a head. Use activation patching."
        )

    report = progress or none
    direct = direct_effects(
        model, pairs, metric=metric, direction=direction, progress=lambda stage, done: report(stage, done / 2)
    )
    heads = direct.circuit(top=n_heads, kinds=("head",))
    through = path_effects(
        model,
        pairs,
        heads.heads,
        metric=metric,
        direction=direction,
        receivers=receivers,
        progress=lambda stage, done: report(stage, 0.5 + done / 2),
    )
    effects = replace(
        through,
        heads_LH=direct.heads_LH,
        method="fact lookup by paths",
        unit="share of the gap (heads: straight to the output; MLP layers: through the extraction heads)",
    )
    mlps = effects.circuit(threshold=threshold, kinds=("mlp",))
    if not with_heads:
        return effects, mlps
    both = {
        "components": (*mlps.components, *heads.components),
        "effects": (*mlps.effects, *heads.effects),
        "provenance": mlps.provenance | {"kinds": ["mlp", "head"]},
    }
    return effects, replace(mlps, **both)
