"""Attacks an edited model to recover the concept: rounds its weights, or relearns on part of the facts.

Every attack restores the model bit for bit. Soft prompts are in `soft_prompts`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from analysis import concepts as concept_library
from analysis.concepts import Concept, Fact, Sentence
from analysis.edits import WeightMask
from analysis.errors import ConceptError, ConfigError
from analysis.evaluation import intervals
from analysis.evaluation.result import Measure
from analysis.evaluation.scoring import per_fact, score_answers
from analysis.models import LanguageModel
from analysis.progress import Progress
from analysis.scoring import factual_recall

__all__ = ["halves", "quantization", "quantized", "relearning", "restored", "rounded"]


def halves(facts: Sequence[Fact], *, seed: int = 0) -> tuple[tuple[Fact, ...], tuple[Fact, ...]]:
    """Split the facts into those an attacker has and as many (or one fewer) that are only scored, drawn with `seed`.

    Raises:
        ConceptError: there are fewer than two facts.
    """
    if len(facts) < 2:
        raise ConceptError("An attack needs at least two facts: some to attack with, others to score. Choose more.")
    order = np.random.default_rng(seed).permutation(len(facts)).tolist()
    middle = (len(facts) + 1) // 2
    return tuple(facts[i] for i in sorted(order[:middle])), tuple(facts[i] for i in sorted(order[middle:]))


def rounded(weight: Tensor, bits: int, *, rows: int = 0) -> Tensor:
    """Symmetric round-to-nearest with one scale for each output row: the largest |weight| is 2^(bits - 1) - 1 steps.

    Args:
        weight: Weight matrix.
        bits: 2 to 8.
        rows: The output axis of `weight`.
    """
    if not 2 <= bits <= 8:
        raise ConfigError(f"Weights can be rounded to 2 to 8 bits, not {bits}.")
    levels = 2 ** (bits - 1) - 1
    values = weight.float()
    scale = values.abs().amax(dim=1 - rows, keepdim=True) / levels
    steps = torch.where(scale > 0, values / scale.clamp_min(torch.finfo(torch.float32).tiny), 0.0).round()
    return (steps.clamp(-levels, levels) * scale).to(weight.dtype)


@contextmanager
def quantized(model: LanguageModel, bits: int) -> Iterator[int]:
    """Round the weights of all linear layers inside the blocks for a `with` block; yields their number.

    The weights are restored bit for bit. Embeddings, the LM head, norms and biases are not rounded, as in common
    post-training quantization.
    """
    chosen = _linear_weights(model)
    with restored(model, [weight for weight, _ in chosen]):
        with torch.no_grad():
            for weight, rows in chosen:
                weight.copy_(rounded(weight, bits, rows=rows))
        yield len(chosen)


@contextmanager
def restored(model: LanguageModel, parameters: Sequence[nn.Parameter] | None = None) -> Iterator[None]:
    """Restore these parameters (default: all) bit for bit at the end of the block, also after an error.

    Holds the model's lock and a copy of the parameters in main memory.
    """
    kept = list(model.parameters()) if parameters is None else list(parameters)
    with model.lock:
        copies = [parameter.detach().to("cpu", copy=True) for parameter in kept]
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, copy in zip(kept, copies):
                    parameter.copy_(copy)


def quantization(model: LanguageModel, concept: Concept, facts: Sequence[Fact], *, bits: int) -> Measure:
    """P(answer) with rounded weights, which may recover unlearned knowledge (Zhang et al. 2024).

    Raises:
        ConfigError: `bits` is out of range.
        ModelFileError: logits are not finite.
    """
    probe = factual_recall.prepare_facts(model, concept, facts)
    with quantized(model, bits):
        p_F = per_fact(probe, [answer.p for answer in score_answers(model, probe)])
    return intervals.mean(f"quantized_{bits}bit", p_F, counts="facts", unit="P(answer)")


def relearning(
    model: LanguageModel,
    concept: Concept,
    facts: Sequence[Fact],
    *,
    steps: int = 20,
    learning_rate: float = 5e-5,
    neutral: tuple[Sentence, ...] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Measure, Measure]:
    """Retrain on half of the facts, score both halves (Deeb & Roger 2024): relearned_held_out, relearned_trained.

    Trains all weights with AdamW in float32, with 6 neutral sentences in each batch of 16, as in a relearning run; Guo et
    al. 2024 use LoRA. If answers repeat (sports), the held-out half shares its answers with the other: compare with the
    unedited model under the same attack.

    Args:
        model: The model; its weights are restored bit for bit.
        concept: The concept whose templates are used.
        facts: The facts to be forgotten, at least two.
        steps: Optimiser steps.
        learning_rate: AdamW's learning rate.
        neutral: Sentences to train on; default: the built-in ones that no measurement uses.
        seed: Draws halves and batches.
        progress: Called with the share done.
        should_stop: Called after every step; True ends the training, and the result so far is scored.

    Raises:
        ConceptError: there are fewer than two facts.
        ConfigError: a setting is out of range, or training diverged.
    """
    from analysis.concepts import split_neutral
    from analysis.relearning import FactTable, RelearnConfig
    from analysis.relearning.tasks.facts import FactTask
    from analysis.relearning.trainer import Trainer

    trained, held_out = halves(facts, seed=seed)
    table = FactTable(retrained=trained, held_out=held_out, n_set_aside=0, threshold=0.0)
    config = RelearnConfig(
        model=model.name,
        concept=concept.name,
        edit=None,
        steps=steps,
        learning_rate=learning_rate,
        precision="float32",
        seed=seed,
    )
    train_text = split_neutral(concept_library.neutral_sentences())[0] if neutral is None else neutral
    probes = [factual_recall.prepare_facts(model, concept, part) for part in (held_out, trained)]
    done = 0
    with restored(model), WeightMask(model) as mask:
        trainer = Trainer(model, config, FactTask(model, config, concept, table, train_text), mask)
        for done in range(1, steps + 1):
            trainer.step()
            if progress is not None:
                progress("Relearning", done / steps)
            if should_stop is not None and should_stop():
                break
        scores = [per_fact(probe, [answer.p for answer in score_answers(model, probe)]) for probe in probes]
    note = f"{done} steps on {len(trained)} facts"
    return (
        intervals.mean("relearned_held_out", scores[0], counts="facts never trained on", unit="P(answer)", note=note),
        intervals.mean("relearned_trained", scores[1], counts="facts trained on", unit="P(answer)", note=note),
    )


def _linear_weights(model: LanguageModel) -> list[tuple[nn.Parameter, int]]:
    """Return the weight of every linear module except the LM head, with its output axis."""
    spared = {end.data_ptr() for end in (model.input_embeddings_VD, model.readout.weight_VD)}
    linears = (one for one in model.named_linears().values() if one.weight.data_ptr() not in spared)
    return list({one.weight.data_ptr(): (one.weight, one.output_axis) for one in linears}.values())
