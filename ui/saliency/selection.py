"""Selects units on the saliency map: the strongest k, those above a threshold, or those inside a drawn outline.

A selection is a short rule that fits into the URL: `select` and `top`, `above` or `drawn`. An outline is written as
`b0,0,9,3` (a box: two corners) or `l0,0,9,0,9,3` (a lasso: its corners), with units along x and layers along y; several
outlines are joined by `_`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import streamlit as st

from analysis import figures
from analysis.components.neurons import NeuronSet
from analysis.components.sites import MLP, site_named
from analysis.edits import Selection
from analysis.errors import ConfigError
from analysis.saliency import MOMENT_METHODS, Saliency
from ui.app import links
from ui.surgery import edit_form

__all__ = [
    "Chosen",
    "choose",
    "decode",
    "encode",
    "forget_threshold",
    "names_to_surgery",
    "take_outline",
    "to_surgery",
    "widgets",
]

_MAX_CORNERS = 24
_MAX_NAMES = 500
_OUTLINE = "drawn"
_RULES = ("top k", "threshold", "drawn")
_DEFAULT_COUNT = 100


@dataclass(frozen=True, eq=False)
class Chosen:
    """The selected units and the rule that selects them."""

    units: NeuronSet
    strongest: tuple[str, ...]
    """Names, most salient first."""
    rule: Selection | None
    """None for a drawn outline."""

    def describe(self, result: Saliency) -> str:
        """How many units are selected, and in which layer most of them are."""
        site = site_named(result.site)
        if not len(self.units):
            return f"No {site.unit} is selected."
        counts = self.units.counts()
        layer = int(counts.argmax())
        noun = site.unit if len(self.units) == 1 else site.plural
        found = f"**{len(self.units):,} {noun}**"
        if counts[layer] == len(self.units):
            return f"{found} in layer {layer}."
        return f"{found} in {int((counts > 0).sum())} layers, most of them in layer {layer} ({int(counts[layer])})."


def widgets(result: Saliency) -> None:
    """Draw the widgets of the rule, all bound to the URL."""
    # a radio: a segmented control with a default warns if a callback sets it
    links.check("select", _RULES)
    which, value = st.columns([3, 2])
    rule = which.radio("Select", _RULES, horizontal=True, key="select", bind="query-params")
    if rule == "top k":
        value.number_input("How many", 1, 1_000_000, 100, key="top", bind="query-params")
    elif rule == "threshold":
        value.number_input(
            "Score of at least", 0.0, None, None, key="above", bind="query-params", format="%.4g",
            placeholder=f"{_default_threshold(result):.4g}",
            help=f"Left empty: {_default_threshold(result):.4g}, the score of place {min(_DEFAULT_COUNT, result.n_measured)}.",
        )  # fmt: skip


def choose(result: Saliency) -> Chosen:
    """The units that the widgets and the outline select; the widgets need not be drawn.

    Raises:
        ConfigError: the outline in the URL is damaged.
    """
    shape = (result.scores_LN.shape[0], result.scores_LN.shape[1])
    state = st.session_state
    which = state.get("select", "top k")
    rule: Selection | None = None
    flat = np.zeros(0, dtype=np.int64)
    if which == "top k":
        rule = Selection(rule="top_k", value=float(min(state.get("top", 100), result.n_measured)), method=result.method)
        flat = result.order[: int(rule.value)]
    elif which == "threshold":
        above = state.get("above")
        rule = Selection(
            rule="threshold", value=_default_threshold(result) if above is None else float(above), method=result.method
        )
        flat = np.flatnonzero(np.nan_to_num(result.scores_LN, nan=-np.inf) >= rule.value)
    elif which == "drawn":
        flat = decode(outline(), shape).flat
    units = NeuronSet(flat, shape)
    site = site_named(result.site)
    ranked = units.flat[np.argsort(result.ranks_LN.ravel()[units.flat])]
    return Chosen(units, tuple(site.label(*divmod(int(i), shape[1])) for i in ranked[:_MAX_NAMES]), rule)


def forget_threshold() -> None:
    """Callback: forget the threshold, because scores of another method or site have another scale."""
    st.session_state.pop("above", None)


def to_surgery(chosen: Chosen, result: Saliency) -> NoReturn:
    """Open the Surgery page with this selection: its rule, or the names of its strongest units if Surgery has no such rule."""
    rule = chosen.rule
    if rule is not None and result.method in MOMENT_METHODS and result.site == MLP.name:
        key, value = {"top_k": ("k", int(rule.value)), "threshold": ("threshold", rule.value)}[rule.rule]
        st.session_state[key] = value
        st.session_state["rule"], st.session_state["ranked_by"] = rule.rule, result.method
        links.go_to("surgery.py", rule=rule.rule, ranked_by=result.method, **{key: str(value)})
    if len(chosen.units) > len(chosen.strongest):
        st.toast(f"Surgery gets the strongest {len(chosen.strongest)} of the {len(chosen.units):,} selected.")
    names_to_surgery(chosen.strongest)


def names_to_surgery(names: Sequence[str]) -> NoReturn:
    """Open the Surgery page with a list of components."""
    text = ", ".join(names)
    edit_form.use_components(text)
    links.go_to("surgery.py", rule="explicit", neurons=text)


def _default_threshold(result: Saliency) -> float:
    """The score of the hundredth unit, used if no threshold is given."""
    return float(result.scores_LN.ravel()[result.order[min(_DEFAULT_COUNT, result.n_measured) - 1]])


def outline() -> str:
    """The outline of this session, else that of the URL."""
    if _OUTLINE not in st.session_state:
        st.session_state[_OUTLINE] = st.query_params.get(_OUTLINE, "")
    elif st.session_state[_OUTLINE] and st.session_state.get("select") == "drawn":
        st.query_params[_OUTLINE] = st.session_state[_OUTLINE]
    return st.session_state[_OUTLINE]


def take_outline(event: Mapping[str, Any]) -> None:
    """Callback of the map: store the outline that was drawn, and select by it."""
    outline = encode(event.get("box", ()), event.get("lasso", ()))
    if outline:
        st.session_state[_OUTLINE] = outline
        st.session_state["select"] = "drawn"


def encode(boxes: Sequence[Mapping[str, Any]], lassos: Sequence[Mapping[str, Any]]) -> str:
    """Write Plotly's boxes and lassos as a short text; a lasso is reduced to 24 corners."""
    parts = [
        "b" + ",".join(f"{float(value):.1f}" for value in (box["x"][0], box["y"][0], box["x"][1], box["y"][1]))
        for box in boxes
    ]
    for lasso in lassos:
        corners = np.stack([np.asarray(lasso["x"], dtype=float), np.asarray(lasso["y"], dtype=float)], axis=1)
        kept = corners[np.unique(np.linspace(0, len(corners) - 1, min(len(corners), _MAX_CORNERS)).round().astype(int))]
        parts.append("l" + ",".join(f"{value:.1f}" for value in kept.ravel()))
    return "_".join(parts)


def decode(text: str, shape: tuple[int, int]) -> NeuronSet:
    """The units inside the outlines.

    Raises:
        ConfigError: the text is not an outline.
    """
    boxes, lassos = [], []
    for part in text.split("_") if text else ():
        try:
            values = np.array([float(value) for value in part[1:].split(",")])
        except ValueError:
            values = np.zeros(0)
        if part[0:1] not in ("b", "l") or values.size % 2 or values.size < 4 or not np.isfinite(values).all():
            raise ConfigError(f"“{part[:40]}” in the URL is not an outline on the map. Draw it again.")
        corners = {"x": values[0::2].tolist(), "y": values[1::2].tolist()}
        (boxes if part[0] == "b" else lassos).append(corners)
    box, lasso = figures.box_neurons(boxes, shape), figures.lasso_neurons(lassos, shape)
    return NeuronSet(np.union1d(box.flat, lasso.flat), shape)
