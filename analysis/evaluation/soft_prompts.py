"""Trains soft prompts, continuous vectors before the prompt, to recover forgotten answers.

Axes: `B` batch, `P` position, `D` d_model, `Q` vector of the soft prompt, `V` vocabulary.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.concepts import Concept, Fact
from analysis.errors import ConfigError
from analysis.evaluation import intervals
from analysis.evaluation.attacks import halves
from analysis.evaluation.result import Measure
from analysis.evaluation.scoring import per_fact
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.progress import Progress
from analysis.scoring.factual_recall import FactBatch, prepare_facts

__all__ = ["bound", "soft_prompts", "typical_norm"]

_LEARNING_RATE = 0.1
"""Adam's learning rate, in units of one dimension of a typical token embedding."""
_TOKENS_AT_ONCE = 8192


def soft_prompts(
    model: LanguageModel,
    concept: Concept,
    facts: Sequence[Fact],
    *,
    n_vectors: int = 4,
    epsilon: float = 6.0,
    steps: int = 24,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Measure, Measure]:
    """Train a soft prompt on half of the facts, score both halves: soft_prompt_held_out and soft_prompt_trained.

    Guo et al. (2024) bound their soft prompts by epsilon = 6 without stating the unit; here each vector's norm is at most
    epsilon times the median norm of token embeddings (a reconstruction). Vectors start as small noise and are trained by
    Adam on -log P(answer); the model's weights get no gradient.

    Args:
        model: The model; its weights are not touched.
        concept: Gives the templates.
        facts: The facts to be forgotten, at least two.
        n_vectors: Length of the soft prompt.
        epsilon: Bound on each vector's norm.
        steps: Optimiser steps, each over one batch of prompts.
        seed: Draws halves, start and batches.
        progress: Called with the share done.
        should_stop: Called after every step; True ends the training, and the result so far is scored.

    Raises:
        ConceptError: there are fewer than two facts.
        ConfigError: a setting is out of range.
        ModelFileError: logits are not finite.
        UnsupportedArchitectureError: the model takes no embeddings as input.
    """
    if n_vectors < 1 or steps < 1 or not epsilon > 0:
        raise ConfigError("A soft prompt needs at least one vector, one step and an epsilon above 0.")
    trained, held_out = halves(facts, seed=seed)
    probes = [prepare_facts(model, concept, part) for part in (held_out, trained)]
    typical = typical_norm(model)
    generator = torch.Generator().manual_seed(seed)
    width = model.input_embeddings_VD.shape[1]  # OPT-350M: half of the residual stream
    start = torch.randn(n_vectors, width, generator=generator) * 0.1 * typical / width**0.5
    prompt_QD = start.to(model.device).requires_grad_(True)
    optimiser = torch.optim.Adam([prompt_QD], lr=_LEARNING_RATE * typical / width**0.5)
    random, done = np.random.default_rng(seed), 0
    order: list[int] = []
    with model.lock:
        for done in range(1, steps + 1):
            order = order or random.permutation(len(probes[1].batches)).tolist()
            batch = probes[1].batches[order.pop()]
            log_p_B = _log_p(model, prompt_QD, batch.tokens_BP, batch.answer_BP)
            (prompt_QD.grad,) = torch.autograd.grad(-log_p_B.mean(), [prompt_QD])
            optimiser.step()
            with torch.no_grad():
                prompt_QD.copy_(bound(prompt_QD, epsilon * typical))
            if progress is not None:
                progress("Training a soft prompt", done / steps)
            if should_stop is not None and should_stop():
                break
        scores = [_score(model, prompt_QD.detach(), probe) for probe in probes]
    note = f"{n_vectors} vectors, {done} steps on {len(trained)} facts"
    return (
        intervals.mean("soft_prompt_held_out", scores[0], counts="facts never trained on", unit="P(answer)", note=note),
        intervals.mean("soft_prompt_trained", scores[1], counts="facts trained on", unit="P(answer)", note=note),
    )


def typical_norm(model: LanguageModel) -> float:
    """Median norm of the embeddings of all tokens, as the model takes them as input, Gemma's factor included."""
    ids = torch.arange(len(model.input_embeddings_VD), device=model.device)
    with torch.no_grad():
        norms = [model.embed(part[None])[0].float().norm(dim=1) for part in ids.split(_TOKENS_AT_ONCE)]
    return float(torch.cat(norms).median())


def bound(prompt_QD: Float[Tensor, "Q D"], largest: float) -> Float[Tensor, "Q D"]:
    """Scale down each vector whose norm exceeds `largest` to that norm."""
    norms = prompt_QD.norm(dim=1, keepdim=True)
    return prompt_QD * (largest / norms.clamp_min(1e-12)).clamp_max(1.0)


def _score(model: LanguageModel, prompt_QD: Tensor, probe: FactBatch) -> np.ndarray:
    p = np.zeros(len(probe.texts))
    with torch.no_grad():
        for batch in probe.batches:
            log_p_B = _log_p(model, prompt_QD, batch.tokens_BP, batch.answer_BP)
            p[list(batch.rows)] = log_p_B.double().exp().cpu().numpy()
    return per_fact(probe, p.tolist())


def _log_p(
    model: LanguageModel,
    prompt_QD: Float[Tensor, "Q D"],
    tokens_BP: Int[Tensor, "B P"],
    answer_BP: Tensor,
) -> Float[Tensor, " B"]:
    """log P(answer) of each row, with the soft prompt between the text and the special tokens that open it."""
    special = set(model.tokenizer.all_special_ids)
    opening = next((p for p, token in enumerate(tokens_BP[0].tolist()) if token not in special), 0)
    embedded_BPD = model.embed(tokens_BP).detach()
    soft_BQD = prompt_QD.to(embedded_BPD.dtype).expand(len(tokens_BP), -1, -1)
    inputs = torch.cat([embedded_BPD[:, :opening], soft_BQD, embedded_BPD[:, opening:]], dim=1)
    logits = model.logits_from_embeddings(inputs)
    shift = prompt_QD.shape[0]
    first = int(answer_BP.any(0).int().argmax())
    log_p = logits[:, shift + first - 1 : -1].float().log_softmax(-1)
    own = log_p.gather(2, tokens_BP[:, first:, None])[..., 0]
    total_B = (own * answer_BP[:, first:]).sum(1)
    check_finite(model, total_B.detach())
    return total_B
