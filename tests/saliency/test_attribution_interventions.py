"""Attribution patching against gradients by hand and exact patching; ablation against edited weights.

Every reference runs one prompt at a time, unpadded, on a plain model.
"""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.components.sites import HEADS, MLP, RESIDUAL, SITES, Site
from analysis.concepts import Concept
from analysis.models import LanguageModel
from analysis.saliency import attribution
from analysis.saliency.attribution import patching_effects
from analysis.scoring.contrast_pairs import PromptPairs, answer_batches, pair_prompts
from tests.plain_transformers import Plain, log_p
from tests.saliency.effects_by_hand import assert_effects, examples
from tests.shared_models import shared
from tests.tiny_families import tiny_family

EACH_SITE = pytest.mark.parametrize("site", SITES.values(), ids=SITES)


@pytest.fixture(params=["tiny_folder", "tiny_gpt2_folder"], ids=["llama", "gpt2"])
def either_model(request: pytest.FixtureRequest) -> LanguageModel:
    """The test runs once with each architecture; the model is shared and must not be changed."""
    return shared(request.getfixturevalue(request.param))


@pytest.fixture(autouse=True)
def _several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few tokens a batch, so that sums run over batches of different lengths."""
    monkeypatch.setattr("analysis.scoring.contrast_pairs._TOKENS_PER_BATCH", 70)


def corrupted_input(plain: Plain, pairs: PromptPairs) -> Iterator[tuple[list[int], list[int], int, Tensor, Tensor]]:
    """(clean ids, answer positions, fact, clean embeddings, corrupted embeddings) of every pair, as the model's input."""
    factor = getattr(plain.model.config, "embedding_multiplier", 1.0)  # the noise is added after it
    for batch in pairs.batches:
        for b, fact in enumerate(batch.facts):
            answer = batch.answer_BP[b].nonzero().flatten().tolist()
            ids, twin = (one[b, : answer[-1] + 1].tolist() for one in (batch.clean_BP, batch.corrupted_BP))
            corrupted = plain.embed(twin)
            if batch.noise_BPD is not None:
                corrupted = corrupted + batch.noise_BPD[b : b + 1, : len(ids)] / factor
            yield ids, answer, fact, plain.embed(ids), corrupted


def first_token(plain: Plain, concept: Concept, answer: str) -> int:
    """The token of the answer's first letter, after the first template."""
    fact = next(fact for fact in concept.facts if fact.answer == answer)
    prompt = concept.templates[0].replace("{subject}", fact.subject) + " "
    encoded = plain.tokenizer(prompt + answer, return_offsets_mapping=True)
    (place,) = (i for i, (start, end) in enumerate(encoded["offset_mapping"]) if start <= len(prompt) < end)
    return encoded["input_ids"][place]


def patched_by_hand(
    plain: Plain,
    pairs: PromptPairs,
    site: Site,
    metric: Callable[[Tensor, list[int], list[int], int], Tensor],
    at: float,
) -> tuple[list[np.ndarray], list[int]]:
    found, facts = [], []
    for ids, answer, fact, clean, corrupted in corrupted_input(plain, pairs):
        with torch.no_grad():
            ends = [plain.run(embeddings, [site])[1][site.name] for embeddings in (clean, corrupted)]
        point = (corrupted + at * (clean - corrupted)).requires_grad_(True)
        logits, kept = plain.run(point, [site])
        gradients = torch.autograd.grad(metric(logits, ids, answer, fact), kept[site.name])
        rows = [plain.per_unit(((a - b) * g)[0], site).numpy() for a, b, g in zip(*ends, gradients)]
        found.append(np.stack(rows))
        facts.append(fact)
    return found, facts


@EACH_SITE
@pytest.mark.parametrize(("corruption", "at"), [("swap", "corrupted"), ("noise", "corrupted"), ("random", "clean")])
def test_attribution_patching_is_gradient_times_difference(
    either_model: LanguageModel, tiny_concept: Concept, site: Site, corruption: str, at: str
):
    pairs = pair_prompts(either_model, tiny_concept, corruption=corruption)
    assert len(pairs.batches) > 1
    plain = Plain(either_model.source.path)
    expected = patched_by_hand(
        plain, pairs, site, lambda logits, ids, answer, fact: log_p(logits, ids, answer), float(at == "clean")
    )
    assert_effects(patching_effects(either_model, pairs, [site], at=at)[site.name], *expected)


@pytest.mark.parametrize("family", ["gemma2", "granite"])
@pytest.mark.parametrize("corruption", ["swap", "noise"])
def test_attribution_patching_where_embeddings_are_scaled(
    tmp_path: Path, tokenizer, tiny_concept: Concept, family: str, corruption: str
):
    """Gemma multiplies embeddings at the look-up, Granite after it: the gradient is taken at what the model computes with."""
    model = tiny_family(family, tokenizer, tmp_path)
    pairs = pair_prompts(model, tiny_concept, corruption=corruption)
    expected = patched_by_hand(
        Plain(tmp_path / family), pairs, MLP, lambda logits, ids, answer, fact: log_p(logits, ids, answer), 0.0
    )
    assert_effects(patching_effects(model, pairs, [MLP])[MLP.name], *expected)


def test_attribution_patching_of_a_logit_difference(either_model: LanguageModel, tiny_concept: Concept):
    """The answer's first token against the mean of the other answers'."""
    pairs = pair_prompts(either_model, tiny_concept, corruption="random")
    plain = Plain(either_model.source.path)
    firsts = {fact.answer: first_token(plain, tiny_concept, fact.answer) for fact in tiny_concept.facts}

    def difference(logits: Tensor, ids: list[int], answer: list[int], fact: int) -> Tensor:
        own = firsts[tiny_concept.facts[fact].answer]
        others = sorted({token for token in firsts.values() if token != own})
        return logits[answer[0] - 1, own] - logits[answer[0] - 1, others].mean()

    expected = patched_by_hand(plain, pairs, MLP, difference, 0.0)
    found = patching_effects(either_model, pairs, [MLP], metric="logit_difference")
    assert_effects(found[MLP.name], *expected)


def test_attribution_patching_with_a_mean_gradient(either_model: LanguageModel, tiny_concept: Concept):
    """Three Gauss-Legendre nodes, which integrate polynomials of degree five exactly."""
    pairs = pair_prompts(either_model, tiny_concept, corruption="noise", max_prompts=4)
    plain = Plain(either_model.source.path)
    total, facts = 0.0, []
    for node, weight in ((0.5 - np.sqrt(0.15), 5 / 18), (0.5, 4 / 9), (0.5 + np.sqrt(0.15), 5 / 18)):
        parts, facts = patched_by_hand(plain, pairs, HEADS, lambda x, ids, answer, _: log_p(x, ids, answer), node)
        total = total + weight * np.stack(parts)
    assert_effects(patching_effects(either_model, pairs, [HEADS], steps=3)[HEADS.name], list(total), facts)


def exactly_patched(plain: Plain, pairs: PromptPairs, site: Site, layer: int, unit: int) -> float:
    """Mean log P gained when one unit of the corrupted run takes its clean values."""
    gains = []
    for ids, answer, _, clean, corrupted in corrupted_input(plain, pairs):
        with torch.no_grad():
            own = plain.run(clean, [site])[1][site.name][layer]

            def restore(activation: Tensor, own: Tensor = own) -> Tensor:
                activation = activation.clone()
                activation[..., unit] = own[..., unit]
                return activation

            before = log_p(plain.run(corrupted)[0], ids, answer)
            with plain.hook(layer, site, restore):
                gains.append(float(log_p(plain.run(corrupted)[0], ids, answer) - before))
    return float(np.mean(gains))


@pytest.mark.parametrize("site", [MLP, RESIDUAL], ids=["mlp", "residual"])
def test_attribution_patching_is_exact_for_small_differences(
    tiny_gpt2: LanguageModel, tiny_concept: Concept, site: Site
):
    """A first-order estimate: a tenth of the corruption leaves about a tenth of the relative error."""
    plain = Plain(tiny_gpt2.source.path, torch.float64)
    units = [(layer, unit) for layer in range(2) for unit in range(0, 32, 4)]
    errors = []
    for scale in (1.0, 0.1, 0.01):
        pairs = pair_prompts(tiny_gpt2, tiny_concept, corruption="noise", noise_scale=scale, max_prompts=4)
        found = patching_effects(tiny_gpt2, pairs, [site])[site.name].mean_LN
        exact = np.array([exactly_patched(plain, pairs, site, *unit) for unit in units])
        estimated = np.array([found[unit] for unit in units])
        errors.append(np.linalg.norm(estimated - exact) / np.linalg.norm(exact))
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    assert errors[2] < 0.02


def test_the_map_holds_what_each_component_adds(tiny_model: LanguageModel, tiny_concept: Concept):
    pairs = pair_prompts(tiny_model, tiny_concept)
    found = attribution.attribution_patching(tiny_model, pairs)
    effects = patching_effects(tiny_model, pairs, [MLP, HEADS])
    np.testing.assert_array_equal(found.neurons_LN, effects[MLP.name].mean_LN)
    np.testing.assert_array_equal(found.heads_LH, effects[HEADS.name].mean_LN)
    np.testing.assert_allclose(found.mlps_L, effects[MLP.name].mean_LN.sum(1))
    assert (found.n_prompts, found.provenance["corruption"]) == (pairs.n_prompts, "swap")


def broken(plain: Plain, site: Site, layer: int, unit: int, width: int) -> Plain:
    """A copy whose unit has no output weights; a residual dimension, which has none, is silenced by a hook."""
    copied = copy.deepcopy(plain)
    if site == RESIDUAL:
        copied.module(layer, site).register_forward_hook(
            lambda module, arguments, output: output.index_fill(2, torch.tensor([unit]), 0.0)
        )
        return copied
    weight = copied.module(layer, site).weight
    columns = slice(unit * width, (unit + 1) * width)
    with torch.no_grad():
        if plain.is_gpt2:
            weight[columns] = 0
        else:
            weight[:, columns] = 0
    return copied


@EACH_SITE
def test_ablation_is_an_edit_of_the_weights(either_model: LanguageModel, tiny_concept: Concept, site: Site):
    batches = answer_batches(either_model, tiny_concept, max_examples=5)
    plain = Plain(either_model.source.path)
    units = [(0, 0), (0, 3), (1, 2)]
    found = attribution.ablation(either_model, batches, units, site)
    values, facts = [], []
    for ids, answer, fact in examples(batches):
        row = np.full(found.mean_LN.shape, np.nan)
        with torch.no_grad():
            whole = log_p(plain.run(ids)[0], ids, answer)
            for layer, unit in units:
                without = broken(plain, site, layer, unit, either_model.d_head if site == HEADS else 1)
                row[layer, unit] = float(whole - log_p(without.run(ids)[0], ids, answer))
        values.append(row)
        facts.append(fact)
    assert_effects(found, values, facts)
    assert np.isfinite(found.mean_LN).sum() == 3


def test_a_unit_named_twice_counts_once(tiny_model: LanguageModel, tiny_concept: Concept):
    batches = answer_batches(tiny_model, tiny_concept, max_examples=3)
    once, twice = (attribution.ablation(tiny_model, batches, units) for units in ([(0, 1)], [(0, 1), (0, 1)]))
    np.testing.assert_array_equal(once.mean_LN, twice.mean_LN)
