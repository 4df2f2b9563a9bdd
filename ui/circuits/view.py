"""Draws a result on the Circuits page: where the circuit is cut, what the map means, how circuits overlap.

A change of the cut measures nothing again: effects are measured once, by `ui.circuits.search`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from analysis import localization
from analysis.components.circuit import Circuit, EffectMap, Kind
from analysis.concepts import Concept
from analysis.edits import n_parameters
from analysis.figures.circuits import short_unit
from analysis.localization import CONTROLS, Localization, ProbeCurve
from analysis.localization.fact_lookup import MIN_EFFECT, N_HEADS
from ui.app import viewer_model
from ui.circuits.search import KINDS, MATCHED, PROBE, Settings, cached_result, session_circuits

__all__ = ["cut_form", "lookup_layers", "map_caption", "overlaps", "probe", "probe_caption", "size", "table"]

_MAX_STRONGEST = 300
"""Largest number of components on the slider."""


def cut_form(result: Localization) -> Circuit:
    """Draw the widgets that decide how much of the result is the circuit, all bound to the URL; returns the circuit.

    Raises:
        ConceptError: the probe's accuracy does not rise.
    """
    if result.probe is not None:
        start, end = st.slider(
            "Share of the climb in accuracy: from here, up to here", 0.01, 1.0, (0.2, 0.95), 0.01,
            key="climb", bind="query-params",
            help="The layers in between are chosen, and one more. The default gives the layers of Guo et al. (2024) "
            "on their numbers; they name no rule.",
        )  # fmt: skip
        return localization.lookup_by_probe(result.probe, result.circuit.shape, start=start, end=end)
    if result.effects is None:
        return result.circuit
    if result.method == "fact_lookup_paths":
        return _paths_cut(result.effects)
    return _effects_cut(result.effects)


def map_caption(result: Localization, lookup: Sequence[int] = ()) -> str:
    """What the colours and outlines of the map mean, and on how many prompts the effects were measured."""
    bracket = " Green bracket: layers that look the facts up, by the probe below." if lookup else ""
    if result.probe is not None:
        return f"Blue: the accuracy that each chosen MLP layer adds. Outlined: in the circuit.{bracket}"
    effects = result.effects
    if effects is None:
        return f"Outlined: in the circuit. A control is drawn at random, so it has no effects.{bracket}"
    known = effects.provenance
    said = (
        f"{effects.unit[0].upper()}{effects.unit[1:]}. Mean over n = {effects.n_prompts} prompts of {known['n_facts']} "
        f"known facts; corruption “{known['corruption']}”, seed {known['seed']}."
    )
    if known["n_refused"]:
        said += f" {known['n_refused']} more prompts have no counterpart of the same length and are left out."
    if "clean" in known:
        said += f" The metric is {known['clean']:.2f} on clean prompts, {known['corrupted']:.2f} on corrupted ones."
    said += (
        " Blue: supports the answer; orange: works against it; empty: not measured. Colours end at the 98th percentile. "
        "Outlined: in the circuit."
    )
    if effects.neurons_LN is not None:
        said += " Single neurons are dots in the MLP column, ordered by their number."
    return said + bracket


def probe(concept: Concept) -> tuple[ProbeCurve, Circuit] | None:
    """The last probe of the concept in this session, and the layers chosen from it; None if there is none."""
    for settings, circuit in reversed(list(session_circuits(concept).values())):
        kept = cached_result(concept, settings) if settings.method == PROBE else None
        if kept is not None and kept.result.probe is not None:
            return kept.result.probe, circuit
    return None


def probe_caption(curve: ProbeCurve) -> str:
    """What the probe reads, and on how many subjects it was trained and tested."""
    what = (
        f"names one of {len(curve.answers)} answers"
        if curve.kind == "class"
        else "maps to the answer's unembedding vector; right if the nearest among held-out answers is the right one"
    )
    return (
        f"A probe reads the residual stream at the subject's last token and {what}. n = {curve.n_subjects} subjects, "
        f"{curve.n_prompts} prompts, each tested by a probe that never saw it. Band: 95% interval over subjects. "
        "Dashed: the same with shuffled answers (what is above chance there is leakage). Shaded: the layers chosen. "
        "What a probe can read is not necessarily what the model uses."
    )


def overlaps(concept: Concept, settings: Settings, circuit: Circuit) -> pd.DataFrame:
    """`localization.overlap_table` of the session's circuits, with random controls of the size of `circuit` for reference."""
    circuits = {name: kept for name, (_, kept) in session_circuits(concept).items()}
    if settings.method not in CONTROLS:
        for name in MATCHED:
            drawn = localization.control(viewer_model.model(), name, match=circuit, seed=settings.seed)
            circuits[f"{name.replace('_', ' ')}, drawn once"] = drawn
    return localization.overlap_table(circuits)


def table(result: Localization, circuit: Circuit) -> pd.DataFrame:
    """Every measured component, and whether it is in the circuit; only the circuit if nothing was measured."""
    rows = circuit.table()
    if result.effects is not None:
        rows = pd.concat([result.effects.table(), circuit.only("neuron").table()])
    members = rows["component"].isin(circuit.table()["component"])
    return rows.assign(unit=circuit.unit, in_circuit=members, method=result.method, concept=circuit.concept)


def size(circuit: Circuit) -> str:
    """Components, parameters, and their share of the model, as Markdown."""
    model = viewer_model.model()
    own = n_parameters(model, circuit)
    kinds = circuit.describe().removeprefix(f"{circuit.method}: ")
    return f"**{kinds}**: {own:,} of {model.n_parameters:,} parameters ({own / model.n_parameters:.2%} of the model)"


def _effects_cut(effects: EffectMap) -> Circuit:
    names = _measured(effects)
    left, right = st.columns([3, 2])
    name = names[0]
    if len(names) > 1:
        name = left.segmented_control(
            "Choose from", names, default=names[0], required=True, key="choose", bind="query-params"
        )
    cut = right.segmented_control(
        "Cut by", ["strongest", "threshold"], default="strongest", required=True, key="cut", bind="query-params"
    )
    kinds = KINDS[name]
    if cut == "threshold":
        return effects.circuit(threshold=_threshold(effects, kinds), kinds=kinds)
    most = min(len(effects.ranked(kinds)), _MAX_STRONGEST)
    usual = min(localization.DEFAULT_TOP, most)
    top = st.slider("Strongest components", 1, max(most, 2), usual, key="keep", bind="query-params")
    return effects.circuit(top=top, kinds=kinds)


def _paths_cut(effects: EffectMap) -> Circuit:
    """Cut MLP layers by a threshold, as the method does; heads have another kind of effect, and all or none are added."""
    mlps = effects.circuit(threshold=_threshold(effects, ("mlp",), MIN_EFFECT), kinds=("mlp",))
    if not st.toggle(f"With the {N_HEADS} heads that write the answer", key="with_heads", bind="query-params"):
        return mlps
    heads = effects.circuit(top=N_HEADS, kinds=("head",))
    return replace(
        mlps,
        components=(*mlps.components, *heads.components),
        effects=(*mlps.effects, *heads.effects),
        provenance=mlps.provenance | {"kinds": ["mlp", "head"]},
    )


def _threshold(effects: EffectMap, kinds: tuple[Kind, ...], usual: float | None = None) -> float:
    """Draw a slider over |effect| in round steps; at any value the strongest component is left."""
    strengths = [abs(effect) for effect in effects.ranked(kinds).values()]
    step = float(10 ** np.floor(np.log10(max(strengths[0], 1e-9))) / 50)
    most = max(np.floor(strengths[0] / step), 1) * step
    usual = strengths[min(localization.DEFAULT_TOP, len(strengths)) - 1] if usual is None else usual
    start = np.clip(np.floor(usual / step) * step, 0, most)
    return st.slider(
        f"Effect of at least ({short_unit(effects.unit)})", 0.0, float(most), float(start), step, format="%.3g",
        key="at_least", bind="query-params",
    )  # fmt: skip


def _measured(effects: EffectMap) -> list[str]:
    """The options of `KINDS` whose kinds were all measured."""
    has = {
        "head": bool(np.isfinite(effects.heads_LH).any()),
        "mlp": bool(np.isfinite(effects.mlps_L).any()),
        "neuron": effects.neurons_LN is not None,
    }
    return [name for name, kinds in KINDS.items() if all(has[kind] for kind in kinds)]


def lookup_layers(concept: Concept) -> tuple[int, ...]:
    """The layers chosen from the session's last probe."""
    probed = probe(concept)
    return () if probed is None else probed[1].mlp_layers
