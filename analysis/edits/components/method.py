"""Declares prune, mean ablation and reversal: three methods with the settings of one component edit."""

from analysis.edits.components.edit import ComponentEdit, ComponentSettings, plan_components
from analysis.edits.method import Method
from analysis.edits.settings import build, settings_of

__all__ = ["component_method"]


def component_method(name: str, summary: str, *, place: int) -> Method:
    """Declare a method of component edits.

    Args:
        name: “prune”, “mean_ablate” or “reverse”.
        summary: One phrase: what the method does.
        place: Position in lists.
    """
    return Method(
        name=name,
        summary=summary,
        source="Lo et al. 2024, arXiv 2401.01814",
        edit=ComponentEdit,
        load=ComponentEdit.from_fields,
        configure=lambda values: build(ComponentSettings, values).edit(name),
        settings=tuple(settings_of(ComponentSettings)),
        plan=plan_components,
        presets={"Relearn Removed Concepts: top 50%": {"top_fraction": 0.5}},
        place=place,
    )
