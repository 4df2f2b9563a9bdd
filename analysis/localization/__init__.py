"""Locates the components of a model that a concept's facts depend on, by patching, tracing, paths and probes.

`localize` runs one of `METHODS` and returns a circuit, to which an edit can be confined; the functions behind it give
finer control.
"""

from analysis.localization.controls import CONTROLS, control, matched, overlap_table
from analysis.localization.fact_lookup import lookup_by_paths, lookup_by_probe, rise
from analysis.localization.methods import (
    DEFAULT_CORRUPTION,
    DEFAULT_KINDS,
    DEFAULT_METRIC,
    DEFAULT_TOP,
    MAX_PAIRS,
    METHODS,
    Localization,
    localize,
)
from analysis.localization.patching import (
    DIRECTIONS,
    POSITIONS,
    activation_patching,
    all_components,
    causal_tracing,
    joint_effect,
    normalise,
)
from analysis.localization.paths import RECEIVERS, direct_effects, path_effects
from analysis.localization.probing import ProbeCurve, measure_curve, probe_curve
from analysis.localization.tracing import StateTrace, trace_states

__all__ = [
    "CONTROLS",
    "DEFAULT_CORRUPTION",
    "DEFAULT_KINDS",
    "DEFAULT_METRIC",
    "DEFAULT_TOP",
    "DIRECTIONS",
    "MAX_PAIRS",
    "METHODS",
    "POSITIONS",
    "RECEIVERS",
    "Localization",
    "ProbeCurve",
    "StateTrace",
    "activation_patching",
    "all_components",
    "causal_tracing",
    "control",
    "direct_effects",
    "joint_effect",
    "localize",
    "lookup_by_paths",
    "lookup_by_probe",
    "matched",
    "measure_curve",
    "normalise",
    "overlap_table",
    "path_effects",
    "probe_curve",
    "rise",
    "trace_states",
]
