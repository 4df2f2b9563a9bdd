"""Mean ablation: chosen components are pruned, and their mean output is added to the bias."""

from analysis.edits.components.method import component_method

__all__ = ["METHOD"]

METHOD = component_method(
    "mean_ablate", "prune chosen components, and write their mean contribution in their place", place=20
)
