"""Ablation: sets one unit to zero, runs the model, and measures the loss of log P(answer). Exact, one run per unit."""

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
    units: Sequence[tuple[int, int]],
) -> tuple[Effects, dict[str, Any]]:
    batches = answer_batches(model, concept, facts, max_examples=max_examples, seed=seed)
    return attribution.ablation(model, batches, units, site, progress=progress), {"units": len(units)}


METHOD = CausalMethod(
    name="ablation",
    title="ablation",
    says="How much log P(answer) is lost when the neuron is set to zero: exact.",
    unit="nats: |mean over examples of log P lost when the activation is set to zero|",
    needs_units=True,
    effects=_effects,
    examples=24,
    place=80,
)
