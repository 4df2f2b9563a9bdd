"""Edits: describe, plan, preview, apply, undo exactly, hold through training."""

from analysis.edits.components import ComponentEdit, PlannedEdit
from analysis.edits.descent import Training
from analysis.edits.edit import Change, Edit, Materials
from analysis.edits.ledger import Ledger, LedgerEntry
from analysis.edits.masks import WeightMask
from analysis.edits.methods import METHODS, NEED_NO_FACTS, Method, from_dict, from_settings, method_named, plan
from analysis.edits.preview import preview
from analysis.edits.selection import CONTROLS, RULES, Selection, named_components, short_list
from analysis.edits.slices import circuit_slices, n_parameters

__all__ = [
    "CONTROLS",
    "METHODS",
    "NEED_NO_FACTS",
    "RULES",
    "Change",
    "ComponentEdit",
    "Edit",
    "Ledger",
    "LedgerEntry",
    "Materials",
    "Method",
    "PlannedEdit",
    "Selection",
    "Training",
    "WeightMask",
    "circuit_slices",
    "from_dict",
    "from_settings",
    "method_named",
    "n_parameters",
    "named_components",
    "plan",
    "preview",
    "short_list",
]
