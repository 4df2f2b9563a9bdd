"""What an edit really did: is the concept gone, is the rest still there, is it hidden, and does it come back.

`baseline` measures the unedited model once; `evaluate` measures any later state against it; `compare` puts states side by
side. Each analysis can be used by itself from its module.
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
