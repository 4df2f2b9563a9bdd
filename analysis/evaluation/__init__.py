"""Evaluates an edit: whether the concept is gone, the rest is kept, the answer is only hidden, and whether it comes back.

`baseline` measures the unedited model once; `evaluate` measures any later state against it; `compare` tabulates states
side by side. Each analysis can also be used by itself from its module.
"""

from analysis.concepts.general_text import GeneralText, from_hub
from analysis.evaluation.attacks import quantized
from analysis.evaluation.base import Baseline
from analysis.evaluation.collapse import COLLAPSE_FACTOR, collapse_warning
from analysis.evaluation.evaluator import baseline, evaluate, parts_of
from analysis.evaluation.general_text import neutral_text, offline_text, sampled_text
from analysis.evaluation.parts import ALL, PARTS, QUICK, WITHOUT_FACTS
from analysis.evaluation.result import SUMMARY, Curve, Evaluation, Generation, Histogram, Measure, compare
from analysis.evaluation.words import beginnings, labelled_words

__all__ = [
    "ALL",
    "COLLAPSE_FACTOR",
    "PARTS",
    "QUICK",
    "SUMMARY",
    "WITHOUT_FACTS",
    "Baseline",
    "Curve",
    "Evaluation",
    "GeneralText",
    "Generation",
    "Histogram",
    "Measure",
    "baseline",
    "beginnings",
    "collapse_warning",
    "compare",
    "evaluate",
    "from_hub",
    "labelled_words",
    "neutral_text",
    "offline_text",
    "parts_of",
    "quantized",
    "sampled_text",
]
