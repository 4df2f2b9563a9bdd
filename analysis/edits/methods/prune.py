"""Prune: the weights of chosen components become zero, and stay so in later training."""

from analysis.edits.components.method import component_method

__all__ = ["METHOD"]

METHOD = component_method("prune", "set the weights of chosen components to zero", place=10)
