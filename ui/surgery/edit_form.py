"""Draws the widgets that describe an edit, its method and what it is applied to, on every page that needs one.

Every widget is bound to the URL, so a link reproduces the edit. Old links still work: the list of components keeps its
parameter `neurons`, from when only neurons could be named, and `kind` and `fill`, from when all edits were of components,
are still read.
"""

from typing import Any

import streamlit as st

from analysis.concepts import Concept
from analysis.edits import CONTROLS, METHODS, RULES, ComponentEdit, Edit, Selection, from_settings
from analysis.saliency import METHODS as SALIENCY
from analysis.saliency import RANKING_METHODS
from ui.app import links
from ui.app.tokens import escaped
from ui.surgery.method_form import method_form

__all__ = ["chosen_edit", "edit_form", "use_components"]

_DEFAULTS = {
    "rule": "top_fraction",
    "percent": 1.0,
    "k": 100,
    "threshold": 1.0,
    "neurons": "",
    "ranked_by": "probeless",
    "pick": "none",
    "hold": True,
}
"""Widget key (and URL parameter) -> value used if the widget is not drawn."""
_COMPONENT_METHODS = ("prune", "mean_ablate", "reverse")
_METHOD, _SETTINGS = "remove_by", "method_settings"


def edit_form(concept: Concept) -> None:
    """Draw the widgets; `chosen_edit` reads them."""
    # no format_func on widgets bound to the URL: Streamlit would write the formatted text into the URL
    _from_old_link()
    links.check(_METHOD, METHODS)
    every = "\n".join(f"- `{name}`: {escaped(method.summary)}" for name, method in METHODS.items())
    name = str(st.selectbox("Method", list(METHODS), key=_METHOD, bind="query-params", help=every))
    method = METHODS[name]
    st.caption(f"{escaped(_sentence(method.summary))}. {escaped(method.source)}.")
    if name in _COMPONENT_METHODS:
        _component_form(name)
        return
    carried = st.session_state.get("neurons") or st.query_params.get("neurons")
    if carried and not st.session_state.get("only") and "only" not in st.query_params:
        st.session_state["only"] = st.query_params["only"] = carried  # code has to write the URL too
    st.session_state[_SETTINGS] = method_form(name, method, concept)


def chosen_edit(seed: int = 0) -> Edit:
    """The edit that the widgets of `edit_form` describe; call it after `edit_form`. `seed` draws a random control.

    Raises:
        ConfigError: a value is out of range.
    """
    name = str(st.session_state.get(_METHOD, _COMPONENT_METHODS[0]))
    if name not in _COMPONENT_METHODS:
        return from_settings(name, st.session_state.get(_SETTINGS, {}))
    state: dict[str, Any] = {key: st.session_state.get(key, default) for key, default in _DEFAULTS.items()}
    rule = state["rule"]
    values = {"top_fraction": state["percent"] / 100, "top_k": state["k"], "threshold": state["threshold"]}
    selection = Selection(
        rule=rule,
        value=float(values.get(rule, 0)),
        components=state["neurons"] if rule == "explicit" else "",
        method=state["ranked_by"],
        control=state["pick"],
        seed=seed,
    )
    return ComponentEdit(
        kind="reverse" if name == "reverse" else "prune",
        fill="mean" if name == "mean_ablate" else "zero",
        hold=state["hold"],
        selection=selection,
    )


def use_components(names: str) -> None:
    """Select a list of components such as `L5.N123, L7.H3`; call it before the widgets are drawn.

    Methods that train will train these components only.
    """
    st.session_state["rule"] = "explicit"
    st.session_state["neurons"] = st.session_state["only"] = names


def _component_form(name: str) -> None:
    left, right = st.columns(2)
    with left:
        rule = str(st.selectbox("Which components", list(RULES), key="rule", bind="query-params"))
        st.caption(_sentence(RULES[rule]))
        if rule == "explicit":
            st.text_area(
                "Components", key="neurons", bind="query-params", placeholder="L5.N123, L7.H3, L9.MLP", height=80
            )
        elif rule == "top_fraction":
            st.number_input("Share of all neurons, %", 0.01, 50.0, 1.0, 0.25, key="percent", bind="query-params")
        elif rule == "top_k":
            st.number_input("k", 1, 1_000_000, 100, key="k", bind="query-params")
        else:
            st.number_input("Score of at least", 0.0, None, 1.0, key="threshold", bind="query-params")
    with right:
        if rule != "explicit":
            ranked = str(st.selectbox("Ranked by", list(RANKING_METHODS), key="ranked_by", bind="query-params"))
            st.caption(_sentence(SALIENCY[ranked].unit))
        control = str(st.selectbox("Random control", list(CONTROLS), key="pick", bind="query-params"))
        st.caption(_sentence(CONTROLS[control]))
        if name != "reverse":
            st.toggle(
                "Hold pruned weights through relearning",
                value=True,
                key="hold",
                bind="query-params",
                help="Off: only the output vectors are zeroed, and they may grow back.",
            )


def _from_old_link() -> None:
    """Translate the parameters `kind` and `fill` of old links into a method."""
    if "kind" not in st.query_params and "fill" not in st.query_params:
        return
    kind, fill = st.query_params.pop("kind", "prune"), st.query_params.pop("fill", "zero")
    if _METHOD not in st.session_state and _METHOD not in st.query_params:
        name = "reverse" if kind == "reverse" else "mean_ablate" if fill == "mean" else "prune"
        st.session_state[_METHOD] = st.query_params[_METHOD] = name


def _sentence(phrase: str) -> str:
    return phrase[0].upper() + phrase[1:]
