"""Builds the widgets for a method's settings from their definitions, the same that the command line uses.

Every widget is bound to the URL under the method's name, so a link reproduces the edit. Each preset has widgets of its own,
which start at the paper's values.
"""

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from typing import Any

import streamlit as st

from analysis.concepts import Concept
from analysis.edits.methods import Method
from analysis.edits.settings import Setting
from ui.app.tokens import escaped

__all__ = ["method_form"]

OURS = "defaults"
"""Name of the preset with this project's default values."""

_FACTS = ("forget", "forget_count")
_VISIBLE = (
    "fact", "trigger", "prompts", "update_count", "only", "layer", "layers", "matrices", "n_edits", "scale", "steps",
    "learning_rate", "batch_size", "lambda_forget", "lambda_maintain", "lambda_update", "lambda_retain",
)  # fmt: skip
"""Settings that are always visible; the others are in an expander."""
_NO_FACT = "none: trigger and prompts below"


def method_form(name: str, method: Method, concept: Concept) -> dict[str, Any]:
    """Draw the widgets of a method; returns its settings by name, for `from_settings`."""
    prefix, usual = _preset(name, method)
    values: dict[str, Any] = {}
    settings = {setting.name: setting for setting in method.settings}
    if all(setting in settings for setting in _FACTS):
        values |= _facts(prefix, concept, usual)
    rest = [setting for setting in method.settings if setting.name not in _FACTS]
    shown = [setting for setting in rest if setting.required or setting.name in _VISIBLE]
    _grid(shown, prefix, usual, concept, values)
    hidden = [setting for setting in rest if setting not in shown]
    if hidden:
        with st.expander(f"{len(hidden)} more settings"):
            _grid(hidden, prefix, usual, concept, values)
    return values


def _preset(name: str, method: Method) -> tuple[str, Mapping[str, Any]]:
    """Draw the choice of a preset; returns the prefix of the widgets' keys and the values that differ from the defaults."""
    names = [OURS, *method.presets]
    if len(names) == 1:
        return name, {}
    chosen = str(
        st.selectbox(
            "Begin from", names, key=f"{name}_preset", bind="query-params",
            help="Settings named after a paper are the paper's, for its models; the defaults come from ablations.",
        )
    )  # fmt: skip
    number = names.index(chosen)
    return (f"{name}{number}", method.presets[chosen]) if number else (name, {})


def _facts(prefix: str, concept: Concept, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the choice of the facts to remove: all that the model knows, some drawn at random, or some by name."""
    which = st.segmented_control(
        "Facts to remove", ["all known", "drawn", "named"], default="all known", required=True, key=f"{prefix}_facts",
        bind="query-params", help="The model's other known facts of this concept are kept.",
    )  # fmt: skip
    if which == "drawn":
        count = int(usual.get("forget_count", 0)) or 8
        key = f"{prefix}_forget_count"
        return {"forget_count": st.number_input("How many", 1, 100_000, count, key=key, bind="query-params")}
    if which == "named":
        names = list(concept.fact_names())
        chosen = st.multiselect("Their names", names, key=f"{prefix}_forget", bind="query-params")
        if not chosen:
            st.caption("No fact is named yet, so all facts that the model knows would be removed.")
        return {"forget": tuple(chosen)}
    return {}


def _grid(
    settings: Sequence[Setting], prefix: str, usual: Mapping[str, Any], concept: Concept, values: dict[str, Any]
) -> None:
    columns = st.columns(3)
    for i, setting in enumerate(settings):
        with columns[i % len(columns)]:
            value = _widget(setting, f"{prefix}_{setting.name}", usual.get(setting.name, setting.default), concept)
        if value is not MISSING:
            values[setting.name] = value


def _widget(setting: Setting, key: str, default: Any, concept: Concept) -> Any:
    """Draw one setting; returns its value, or MISSING if nothing is given."""
    label, about = _label(setting.name), escaped(setting.help) or None
    if setting.name == "only":
        return st.text_input(
            label, key="only", bind="query-params", placeholder="L5.MLP, L7.H3", help=about
        ).strip()  # one key for all methods, so that a circuit taken from another page stays when the method changes
    if setting.name == "fact":
        if not concept.facts:
            return ""
        none = [] if setting.required else [_NO_FACT]
        chosen = st.selectbox(label, [*concept.fact_names(), *none], key=key, bind="query-params", help=about)
        return "" if chosen == _NO_FACT else chosen
    if setting.choices:
        at = setting.choices.index(default) if default in setting.choices else 0
        return st.selectbox(label, list(setting.choices), at, key=key, bind="query-params", help=about)
    if setting.kind is bool:
        return st.toggle(label, bool(default), key=key, bind="query-params", help=about)
    if setting.kind is int and default is not MISSING:
        return int(st.number_input(label, value=int(default), step=1, key=key, bind="query-params", help=about) or 0)
    if setting.kind is float and default is not MISSING:
        step = abs(float(default)) / 10 or 0.1
        return st.number_input(
            label, value=float(default), step=step, format="%g", key=key, bind="query-params", help=about
        )
    text = st.text_input(label, _text(default), key=key, bind="query-params", help=about).strip()
    if _optional(setting) and text.lower() in ("", "none"):
        return None
    if not text and setting.required:
        return MISSING
    return text


def _text(default: Any) -> str:
    if default is MISSING or default is None:
        return ""
    return ", ".join(map(str, default)) if isinstance(default, (tuple, list)) else str(default)


def _optional(setting: Setting) -> bool:
    union = typing.get_origin(setting.kind) in (typing.Union, types.UnionType)
    return union and type(None) in typing.get_args(setting.kind)


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()
