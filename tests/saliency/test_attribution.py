"""Gradient × activation and integrated gradients against Captum and finite differences, one prompt at a time."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients
from torch import Tensor

from analysis.components.sites import HEADS, MLP, RESIDUAL, SITES, Site
from analysis.concepts import Concept
from analysis.errors import ConfigError, ModelFileError
from analysis.models import LanguageModel
from analysis.saliency import attribution
from analysis.scoring.contrast_pairs import AnswerBatch, answer_batches, pair_prompts
from tests.plain_transformers import Plain, log_p
from tests.saliency.effects_by_hand import assert_effects, examples
from tests.shared_models import shared

EACH_SITE = pytest.mark.parametrize("site", SITES.values(), ids=SITES)


@pytest.fixture(params=["tiny_folder", "tiny_gpt2_folder"], ids=["llama", "gpt2"])
def either_model(request: pytest.FixtureRequest) -> LanguageModel:
    """The test runs once with each architecture; the model is shared and must not be changed."""
    return shared(request.getfixturevalue(request.param))


@pytest.fixture(autouse=True)
def _several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few tokens a batch, so that sums run over batches of different lengths."""
    monkeypatch.setattr("analysis.scoring.contrast_pairs._TOKENS_PER_BATCH", 70)


def forward(plain: Plain, layer: int, site: Site) -> Callable[..., Tensor]:
    """The activation of one layer -> log P(answer), for Captum, which repeats the arguments for its steps."""

    def function(activation_B: Tensor, ids_BP: Tensor, answer_BP: Tensor) -> Tensor:
        with plain.hook(layer, site, lambda _: activation_B):
            logits = plain.model(input_ids=ids_BP, use_cache=False).logits
        own = torch.log_softmax(logits[:, :-1], -1).gather(2, ids_BP[:, 1:, None]).squeeze(2)
        return (own * answer_BP[:, 1:]).sum(1)

    return function


def by_captum(
    plain: Plain, site: Site, batches: Sequence[AnswerBatch], attribute: Callable[..., Tensor]
) -> tuple[list[np.ndarray], list[int]]:
    """`attribute(function, activation, arguments, layer)` of every example, summed over positions: [L, N] each."""
    found, facts = [], []
    for ids, answer, fact in examples(batches):
        with torch.no_grad():
            _, kept = plain.run(ids, [site])
        arguments = (torch.tensor([ids]), torch.tensor([[p in answer for p in range(len(ids))]]))
        rows = []
        for layer, activation in enumerate(kept[site.name]):
            values = attribute(forward(plain, layer, site), activation, arguments, layer)
            rows.append(plain.per_unit(values[0].detach(), site).numpy())
        found.append(np.stack(rows))
        facts.append(fact)
    return found, facts


@EACH_SITE
def test_gradient_x_activation_is_captums(either_model: LanguageModel, tiny_concept: Concept, site: Site):
    batches = answer_batches(either_model, tiny_concept)
    assert len(batches) > 1
    expected = by_captum(
        Plain(either_model.source.path),
        site,
        batches,
        lambda f, activation, arguments, _: InputXGradient(f).attribute(
            activation.requires_grad_(), additional_forward_args=arguments
        ),
    )
    assert_effects(attribution.gradient_x_activation(either_model, batches, site), *expected)


@EACH_SITE
def test_gradient_x_activation_is_a_finite_difference(either_model: LanguageModel, tiny_concept: Concept, site: Site):
    batches = answer_batches(either_model, tiny_concept, max_examples=3)
    found = attribution.gradient_x_activation(either_model, batches, site)
    plain = Plain(either_model.source.path)
    width = either_model.d_head if site == HEADS else 1
    step = 0.02
    for layer, unit in [(0, 1), (1, 3), (1, 0)]:

        def scaled(factor: float, layer: int = layer, unit: int = unit) -> Callable[[Tensor], Tensor]:
            def hook(activation: Tensor) -> Tensor:
                activation = activation.clone()
                activation[..., unit * width : (unit + 1) * width] *= factor
                return activation

            return hook

        differences = []
        for ids, answer, _ in examples(batches):
            ends = []
            for factor in (1 + step, 1 - step):
                with torch.no_grad(), plain.hook(layer, site, scaled(factor)):
                    ends.append(float(log_p(plain.run(ids)[0], ids, answer)))
            differences.append((ends[0] - ends[1]) / (2 * step))
        assert found.mean_LN[layer, unit] == pytest.approx(np.mean(differences), rel=0.02, abs=2e-4)


def mean_activations(plain: Plain, batches: Sequence[AnswerBatch], site: Site) -> list[Tensor]:
    """Mean over all positions of all examples, [1, 1, N] for each layer."""
    with torch.no_grad():
        runs = [plain.run(ids, [site])[1][site.name] for ids, _, _ in examples(batches)]
    return [torch.cat(layer, dim=1).mean(1, keepdim=True) for layer in zip(*runs)]


@EACH_SITE
@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_integrated_gradients_are_captums(
    either_model: LanguageModel, tiny_concept: Concept, site: Site, baseline: str
):
    batches = answer_batches(either_model, tiny_concept, max_examples=4)
    plain = Plain(either_model.source.path)
    means = mean_activations(plain, batches, site)

    def attribute(f: Callable[..., Tensor], activation: Tensor, arguments: tuple, layer: int) -> Tensor:
        start = means[layer].expand_as(activation) if baseline == "mean" else torch.zeros_like(activation)
        method = IntegratedGradients(f)
        return method.attribute(activation, start, additional_forward_args=arguments, n_steps=6, method="gausslegendre")

    found = attribution.integrated_gradients(either_model, batches, site, steps=6, baseline=baseline)
    assert_effects(found, *by_captum(plain, site, batches, attribute))


def test_integrated_gradients_begin_where_the_norm_is_not_singular(tiny_model: LanguageModel, tiny_concept: Concept):
    batches = answer_batches(tiny_model, tiny_concept, max_examples=2)
    for site, baseline in ((MLP, "zero"), (HEADS, "zero"), (RESIDUAL, "mean")):
        chosen = attribution.integrated_gradients(tiny_model, batches, site, steps=2, baseline=baseline)
        default = attribution.integrated_gradients(tiny_model, batches, site, steps=2)
        np.testing.assert_array_equal(default.mean_LN, chosen.mean_LN)


@pytest.mark.parametrize(
    ("site", "baseline"), [(MLP, "zero"), (HEADS, "mean"), (RESIDUAL, "mean")], ids=["mlp", "heads", "residual"]
)
def test_integrated_gradients_are_complete(
    either_model: LanguageModel, tiny_concept: Concept, site: Site, baseline: str
):
    """Over all units of a layer they add up to what the layer makes of log P; and the reported error is the rest."""
    batches = answer_batches(either_model, tiny_concept, max_examples=3)
    plain = Plain(either_model.source.path)
    lost = []
    for layer, mean in enumerate(mean_activations(plain, batches, site)):
        lost.append(0.0)
        start = mean if baseline == "mean" else torch.zeros_like(mean)
        for ids, answer, _ in examples(batches):
            with torch.no_grad():
                whole = log_p(plain.run(ids)[0], ids, answer)
                with plain.hook(layer, site, start.expand_as):
                    lost[layer] += float(whole - log_p(plain.run(ids)[0], ids, answer))
    coarse, fine = (
        attribution.integrated_gradients(either_model, batches, site, steps=steps, baseline=baseline)
        for steps in (1, 24)
    )
    for found in (coarse, fine):
        missed = np.abs(found.mean_LN.sum(1) * 3 - lost)
        np.testing.assert_allclose(found.completeness_L, missed / np.abs(lost), atol=1e-3)
    assert fine.completeness_L.max() < 0.02
    assert coarse.completeness_L.max() > 0.05


def test_a_path_through_the_norms_singularity_is_shown_to_be_incomplete(tiny_model: LanguageModel, tiny_concept):
    """From zero, the residual stream's norm makes nearly all of the path a step: too few nodes fall on it."""
    batches = answer_batches(tiny_model, tiny_concept, max_examples=3)
    zero, mean = (
        attribution.integrated_gradients(tiny_model, batches, RESIDUAL, baseline=baseline, steps=24).completeness_L
        for baseline in ("zero", "mean")
    )
    assert zero.max() > 0.1
    assert zero.max() > 10 * mean.max()


def test_a_single_fact_has_no_error(tiny_model: LanguageModel, tiny_concept: Concept):
    batches = answer_batches(tiny_model, tiny_concept, tiny_concept.facts[:1])
    found = attribution.gradient_x_activation(tiny_model, batches)
    assert (found.n_examples, found.n_independent) == (2, 1)
    assert np.isfinite(found.mean_LN).all()
    assert np.isnan(found.standard_error_LN).all()


@EACH_SITE
def test_effects_that_are_not_finite_are_refused(tiny_model: LanguageModel, tiny_concept: Concept, site: Site):
    batches = answer_batches(tiny_model, tiny_concept, max_examples=2)
    pairs = pair_prompts(tiny_model, tiny_concept, max_prompts=2)
    with torch.no_grad():
        tiny_model.neuron_weights(0)[0].parameter[5, 3] = float("nan")
    runs = (
        lambda: attribution.gradient_x_activation(tiny_model, batches, site),
        lambda: attribution.integrated_gradients(tiny_model, batches, site, steps=1),
        lambda: attribution.patching_effects(tiny_model, pairs, [site]),
        lambda: attribution.ablation(tiny_model, batches, [(0, 0)], site),
    )
    for run in runs:
        with pytest.raises(ModelFileError, match=rf"blocks\.0\.{site.name}.*not finite"):
            run()


@pytest.mark.usefixtures("unchecked_types")
def test_settings_out_of_range(tiny_model: LanguageModel, tiny_concept: Concept):
    batches = answer_batches(tiny_model, tiny_concept, max_examples=2)
    pairs = pair_prompts(tiny_model, tiny_concept, max_prompts=2)
    with pytest.raises(ConfigError, match="steps is 0"):
        attribution.integrated_gradients(tiny_model, batches, steps=0)
    with pytest.raises(ConfigError, match="“median” is no baseline"):
        attribution.integrated_gradients(tiny_model, batches, baseline="median")
    with pytest.raises(ConfigError, match="“between” is no place"):
        attribution.patching_effects(tiny_model, pairs, [MLP], at="between")
    with pytest.raises(ConfigError, match="“loss” is not a metric"):
        attribution.patching_effects(tiny_model, pairs, [MLP], metric="loss")
    with pytest.raises(ConfigError, match="No unit is named"):
        attribution.ablation(tiny_model, batches, [])
    for unit, site in (((3, 0), MLP), ((0, 48), MLP), ((0, -1), RESIDUAL), ((0, 4), HEADS)):
        with pytest.raises(ConfigError, match="lies outside the model"):
            attribution.ablation(tiny_model, batches, [unit], site)


def test_progress_ends_at_one(tiny_model: LanguageModel, tiny_concept: Concept):
    batches = answer_batches(tiny_model, tiny_concept, max_examples=4)
    for run in (
        lambda report: attribution.integrated_gradients(tiny_model, batches, steps=1, progress=report),
        lambda report: attribution.ablation(tiny_model, batches, [(0, 1), (2, 3)], progress=report),
    ):
        shares: list[float] = []
        run(shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)
