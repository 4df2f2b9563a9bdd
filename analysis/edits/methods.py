"""Registers the removal methods by name, builds their edits, and plans an edit on a model.

The command line and the dashboard offer the methods of `METHODS`. Objectives of gradient edits are collected from the
modules of `analysis.edits.gradient.objectives`; edits of other kinds are listed here.
"""

from collections.abc import Mapping
from typing import Any

from analysis.edits.components.edit import ComponentEdit, ComponentSettings, plan_components
from analysis.edits.edit import Change, Edit, Materials
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.objectives import OBJECTIVES
from analysis.edits.gradient.training import plan_gradient
from analysis.edits.method import Method, method
from analysis.edits.settings import build, settings_of
from analysis.edits.tars.edit import plan_tars
from analysis.edits.tars.presets import OURS
from analysis.edits.tars.targeting import Tars
from analysis.errors import ConfigError
from analysis.models import LanguageModel

__all__ = ["METHODS", "NEED_NO_FACTS", "Method", "from_dict", "from_settings", "method_named", "plan"]


def _component_method(name: str, summary: str, place: int) -> Method:
    return Method(
        name=name,
        summary=summary,
        source="Lo et al. 2024, arXiv 2401.01814",
        edit=ComponentEdit,
        load=ComponentEdit.from_fields,
        configure=lambda values: build(ComponentSettings, values).edit(name),
        settings=tuple(settings_of(ComponentSettings)),
        presets={"Relearn Removed Concepts: top 50%": {"top_fraction": 0.5}},
        place=place,
    )


_DECLARED = (
    _component_method("prune", "set the weights of chosen components to zero", 10),
    _component_method("mean_ablate", "prune chosen components, and write their mean contribution in their place", 20),
    _component_method("reverse", "negate what chosen components write to the residual stream", 30),
    method(
        Tars,
        "replace weight vectors that point at an answer by the reversed direction",
        source="Davies et al. 2024, arXiv 2412.10257 (reconstructed from the abstract)",
        presets={"Ours: ranked by firing, scaled by the stream": OURS},
        place=40,
    ),
    *OBJECTIVES,
)

METHODS: dict[str, Method] = {
    declared.name: declared for declared in sorted(_DECLARED, key=lambda declared: (declared.place, declared.name))
}

NEED_NO_FACTS = tuple(name for name, declared in METHODS.items() if not declared.needs_facts)
"""Methods for concepts that are only labelled words."""


def plan(edit: Edit, model: LanguageModel, materials: Materials) -> Change[Any]:
    """Plan an edit for one unedited model.

    Raises:
        ConceptError: the materials lack what the method needs.
        EditError: the edit does not fit the model.
    """
    if isinstance(edit, ComponentEdit):
        return plan_components(edit, model, materials)
    if isinstance(edit, Tars):
        return plan_tars(edit, model, materials)
    if isinstance(edit, GradientEdit):
        return plan_gradient(edit, model, materials)
    raise ConfigError(f"“{edit.method}” cannot be planned.")


def method_named(name: str) -> Method:
    """Return the method of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"“{name}” is no method. Use {', '.join(METHODS)}.")
    return METHODS[name]


def from_settings(method: str, values: Mapping[str, Any]) -> Edit:
    """Build an edit from a method's name and its settings; values may be strings.

    Raises:
        ConfigError: the method or a setting is unknown, or a value does not fit.
    """
    return method_named(method).configure(values)


def from_dict(data: Mapping[str, Any]) -> Edit:
    """Rebuild an edit from `Edit.to_dict`.

    Raises:
        ConfigError: the method is unknown, or a field is missing, unknown or out of range.
    """
    if not isinstance(data, Mapping):
        raise ConfigError("This is no edit (no JSON object).")
    # old files hold component edits without a method's name; their kind is that name
    name = str(data.get("method", data.get("kind")))
    edit = method_named(name).load({key: value for key, value in data.items() if key != "method"})
    if edit.method != name and "method" in data:
        raise ConfigError(f"The edit says “{name}”, but its settings are those of “{edit.method}”.")
    return edit
