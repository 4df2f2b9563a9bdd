"""Collects the removal methods by name, builds their edits, and plans an edit on a model.

To add an edit that does not train, add a module here that declares it as its `METHOD`; no other file names it. Those that
train are objectives, collected in the same way from `analysis.edits.gradient.objectives`. The command line, the dashboard
and recipes read `METHODS`.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from analysis.edits.edit import Change, Edit, Materials
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.objectives import OBJECTIVES
from analysis.edits.gradient.training import plan_gradient
from analysis.edits.method import Method
from analysis.errors import ConfigError
from analysis.models import LanguageModel

__all__ = ["METHODS", "NEED_NO_FACTS", "Method", "from_dict", "from_settings", "method_named", "plan"]


def _declared() -> dict[str, Method]:
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    methods: list[Method] = [*(module.METHOD for module in modules), *OBJECTIVES]
    return {method.name: method for method in sorted(methods, key=lambda method: (method.place, method.name))}


METHODS: dict[str, Method] = _declared()

NEED_NO_FACTS = tuple(name for name, declared in METHODS.items() if not declared.needs_facts)
"""Methods for concepts that are only labelled words."""


def plan(edit: Edit, model: LanguageModel, materials: Materials) -> Change[Any]:
    """Plan an edit for one unedited model.

    Raises:
        ConceptError: the materials lack what the method needs.
        EditError: the edit does not fit the model.
    """
    declared = METHODS.get(edit.method)
    if declared is not None and declared.plan is not None:
        return declared.plan(edit, model, materials)
    if isinstance(edit, GradientEdit):
        return plan_gradient(edit, model, materials)
    raise ConfigError(f"“{edit.method}” cannot be planned.")


def method_named(name: str) -> Method:
    """Return the method of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"“{name}” is not a method. Use {', '.join(METHODS)}.")
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
        raise ConfigError("This is not an edit (it is not a JSON object).")
    # old files hold component edits without a method's name; their kind is that name
    name = str(data.get("method", data.get("kind")))
    edit = method_named(name).load({key: value for key, value in data.items() if key != "method"})
    if edit.method != name and "method" in data:
        raise ConfigError(f"The edit says “{name}”, but its settings are those of “{edit.method}”.")
    return edit
