"""Attribution patching: first-order estimate of the gain when a unit's clean value is restored in a corrupted run.

Gradient × (clean - corrupted activation) (Nanda 2023; Hanna et al. 2024 for gradients averaged between the two runs).
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
from analysis.scoring.contrast_pairs import pair_prompts

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
    corruption: Any = "swap",
    **options: Any,
) -> tuple[Effects, dict[str, Any]]:
    pairs = pair_prompts(model, concept, facts, corruption=corruption, max_prompts=max_examples, seed=seed)
    effects = attribution.patching_effects(model, pairs, [site], **options)[site.name]
    return effects, pairs.provenance | options


METHOD = CausalMethod(
    name="attribution_patching",
    title="attribution patching",
    says="First-order estimate of how far the neuron's clean activation restores the answer in a swapped prompt.",
    unit="nats: |mean over prompts of gradient of log P × (clean - corrupted activation)|",
    source="Nanda 2023; Hanna et al. 2024",
    needs_facts=True,  # their subjects are swapped
    effects=_effects,
    examples=48,
    place=70,
)
