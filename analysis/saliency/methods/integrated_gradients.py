"""Integrated gradients: the gradient of log P(answer) averaged along a path from a baseline to a layer's activations.

The score is the averaged gradient times the change of the activation from the baseline; over all units of a layer these
add up to the effect of the whole layer (Sundararajan et al. 2017).
"""

from collections.abc import Sequence
from typing import Any

from analysis.components.sites import Site
from analysis.concepts import Concept, Fact
from analysis.models import LanguageModel
from analysis.progress import ShareDone
from analysis.saliency import attribution
from analysis.saliency.effects import Effects
from analysis.saliency.method import CausalMethod
from analysis.scoring.contrast_pairs import answer_batches

__all__ = ["METHOD"]


def _effects(
    model: LanguageModel,
    concept: Concept,
    facts: Sequence[Fact],
    *,
    site: Site,
    seed: int,
    max_examples: int,
    progress: ShareDone | None,
    **options: Any,
) -> tuple[Effects, dict[str, Any]]:
    batches = answer_batches(model, concept, facts, max_examples=max_examples, seed=seed)
    return attribution.integrated_gradients(model, batches, site, progress=progress, **options), options


METHOD = CausalMethod(
    name="integrated_gradients",
    title="integrated gradients",
    says="First-order estimate of what the neuron adds to log P(answer), averaged along the path from no activation to "
    "the real one.",
    unit="nats: |mean over examples of the gradient of log P from zero to the activation × activation|",
    source="Sundararajan et al. 2017",
    takes="many minutes",
    effects=_effects,
    examples=12,  # each takes many passes a layer
    place=60,
)
