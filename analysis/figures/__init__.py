"""Draws results as Plotly figures; every axis has its unit, and colours suit colour blindness (Okabe-Ito, cividis)."""

from analysis.figures.comparison import activation_histogram, agreement_matrix, concept_pair, top_count, top_units
from analysis.figures.layers import layer_mean_curve, layer_profile, layer_share_curve, probe_skill
from analysis.figures.relearning import f1_curve, layer_shift, priming_scatter, recovery
from analysis.figures.saliency import MOST_MARKED, box_neurons, lasso_neurons, saliency_map
from analysis.figures.style import HUES, LEGEND, MARGINS, faded

__all__ = [
    "HUES",
    "LEGEND",
    "MARGINS",
    "MOST_MARKED",
    "activation_histogram",
    "agreement_matrix",
    "box_neurons",
    "concept_pair",
    "f1_curve",
    "faded",
    "lasso_neurons",
    "layer_mean_curve",
    "layer_profile",
    "layer_share_curve",
    "layer_shift",
    "priming_scatter",
    "probe_skill",
    "recovery",
    "saliency_map",
    "top_count",
    "top_units",
]
