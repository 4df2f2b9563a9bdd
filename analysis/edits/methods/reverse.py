"""Reversal: what chosen components write to the residual stream is negated."""

from analysis.edits.components.method import component_method

__all__ = ["METHOD"]

METHOD = component_method("reverse", "negate what chosen components write to the residual stream", place=30)
