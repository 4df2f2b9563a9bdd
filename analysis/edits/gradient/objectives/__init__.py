"""Collects the objectives of gradient edits: every module of this package declares one as its `METHOD`.

To add an objective, add a module here; no other file names it. The command line, the dashboard and recipes read
`analysis.edits.METHODS`, which includes them all.

The defaults are for this project's default model, not those of the papers, whose models are fifty times larger.
docs/unlearning.md says which of them were ablated, and how.
"""

import importlib
import pkgutil

from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.method import Method

__all__ = ["GRADIENT_METHODS", "OBJECTIVES"]


def _declared() -> tuple[Method, ...]:
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    methods: list[Method] = [module.METHOD for module in modules]
    return tuple(sorted(methods, key=lambda method: (method.place, method.name)))


OBJECTIVES = _declared()
"""The objectives' methods, in the order in which they are offered."""

GRADIENT_METHODS: dict[str, type[GradientEdit]] = {
    method.name: method.edit for method in OBJECTIVES if issubclass(method.edit, GradientEdit)
}
"""Name of a method -> its edit class."""
