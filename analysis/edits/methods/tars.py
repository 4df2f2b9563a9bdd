"""TARS: weight vectors that point at an answer are replaced by the reversed direction (Davies et al. 2024)."""

from analysis.edits.method import method
from analysis.edits.tars.edit import plan_tars
from analysis.edits.tars.presets import OURS
from analysis.edits.tars.targeting import Tars

__all__ = ["METHOD"]

METHOD = method(
    Tars,
    "replace weight vectors that point at an answer by the reversed direction",
    source="Davies et al. 2024, arXiv 2412.10257 (reconstructed from the abstract)",
    plan=plan_tars,
    presets={"Ours: ranked by firing, scaled by the stream": OURS},
    place=40,
)
