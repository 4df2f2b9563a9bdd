"""Describes, plans, previews and applies edits of a model's weights, undoes them exactly, and holds them in training."""

from analysis.edits.components.edit import ComponentEdit, PlannedEdit
from analysis.edits.components.preview import preview
from analysis.edits.components.selection import CONTROLS, RULES, Selection, named_components, short_list
from analysis.edits.edit import Change, Edit, Materials
from analysis.edits.gradient.training import Training
from analysis.edits.ledger import Ledger, LedgerEntry
from analysis.edits.methods import METHODS, NEED_NO_FACTS, Method, from_dict, from_settings, method_named, plan
from analysis.training.masks import WeightMask
from analysis.training.slices import circuit_slices, n_parameters

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
