"""Gradient × activation: first-order estimate of the loss of log P(answer) when a unit is set to zero."""

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
    return attribution.gradient_x_activation(model, batches, site, **options), options


METHOD = CausalMethod(
    name="gradient_x_activation",
    title="gradient × activation",
    says="First-order estimate of what the neuron adds to log P(answer).",
    unit="nats: |mean over examples of gradient of log P × activation|",
    effects=_effects,
    examples=48,
    place=50,
)
