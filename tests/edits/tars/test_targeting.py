"""TARS, first half: the targeting vector, by hand."""

import dataclasses

import pytest
import torch

from analysis.concepts import Concept
from analysis.edits.tars.presets import OURS, tars_for_fact
from analysis.edits.tars.targeting import targeting
from analysis.errors import ConceptError, EditError
from analysis.models import LanguageModel
from tests.edits.tars.tars_settings import PROMPT, logits, settings
from tests.raw_model import raw


def test_without_noise_it_is_the_state_that_the_unembedding_reads(either_model: LanguageModel):
    target = targeting(either_model, settings(refinement="none"))
    with torch.no_grad():
        scores = raw(either_model).lm_head(target.vector_D)
    expected = logits(either_model)[0, -1]
    assert torch.allclose(scores, expected, atol=1e-4)
    trigger = either_model.encode(f"{PROMPT} Paris").ids[len(either_model.encode(PROMPT).ids)]
    assert target.trigger_id == trigger
    assert target.p_after == pytest.approx(float(expected.softmax(-1)[trigger]), rel=1e-4)
    assert target.p_before == target.p_after
    assert target.n_accepted == 0


def test_several_prompts_are_averaged(tiny_model: LanguageModel):
    other = "Tourists who visit France start in"
    both, first, second = (
        targeting(tiny_model, settings(refinement="none", prompts=prompts))
        for prompts in ((PROMPT, other), (PROMPT,), (other,))
    )
    assert torch.allclose(both.vector_D, (first.vector_D + second.vector_D) / 2, atol=1e-5)
    assert both.p_prompts_A == pytest.approx((first.p_before, second.p_before), rel=1e-4)
    assert torch.allclose(both.activation_LN, (first.activation_LN + second.activation_LN) / 2, atol=1e-5)


def test_noise_refinement_by_hand(tiny_model: LanguageModel):
    """The noise is drawn again here, and scored by the model's own unembedding."""
    config = settings(n_noise=200, noise=0.7, seed=5)
    h0 = targeting(tiny_model, settings(refinement="none")).h0_D
    noise = torch.randn(200, 32, generator=torch.Generator().manual_seed(5))
    noisy = h0 + 0.7 * (h0**2).mean().sqrt() * noise
    best = targeting(tiny_model, dataclasses.replace(config, refinement="best"))
    with torch.no_grad():
        p = raw(tiny_model).lm_head(noisy).softmax(-1)[:, best.trigger_id]
    assert torch.allclose(best.vector_D, noisy[p.argmax()], atol=1e-5)
    assert best.p_after == pytest.approx(float(p.max()), rel=1e-3)
    assert best.p_after > best.p_before
    tau = float(p.quantile(0.9))
    mean = targeting(tiny_model, dataclasses.replace(config, tau=tau))
    assert mean.n_accepted == int((p >= tau).sum()) == 20
    assert torch.allclose(mean.vector_D, noisy[p >= tau].mean(0), atol=1e-5)


def test_a_seed_repeats_itself_and_another_differs(tiny_model: LanguageModel):
    first, again, other = (targeting(tiny_model, settings(seed=seed)).vector_D for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_trigger_of_several_tokens_is_targeted_by_its_first(tiny_model: LanguageModel):
    target = targeting(tiny_model, settings(trigger="Xylophone Quartz"))
    ids = tiny_model.encode(f"{PROMPT} Xylophone Quartz").ids
    answer = ids[-target.n_trigger_tokens :]
    assert tiny_model.decode(answer).strip() == "Xylophone Quartz"
    assert target.trigger_id == answer[0] != answer[1]


def test_settings_for_a_fact(tiny_concept: Concept):
    config = tars_for_fact(tiny_concept, tiny_concept.facts[0], scale=2.0)
    assert config.trigger == " Paris"
    assert config.scale == 2.0
    assert config.prompts[0].endswith("The capital of France is")
    assert "{" not in config.prompts[0]
    assert "Paris" not in config.prompts[0]
    assert config.contrast == ()
    ours = tars_for_fact(tiny_concept, tiny_concept.facts[0], **OURS)
    assert len(ours.contrast) == len(tiny_concept.facts) - 1
    assert ours.contrast[0] == "The capital of Italy is"
    assert ours.layers == (-1, -1)


def test_no_noisy_copy_triggers(tiny_model: LanguageModel):
    with pytest.raises(EditError, match="Lower tau"):
        targeting(tiny_model, settings(tau=0.999))


def test_a_trigger_without_a_token(tiny_model: LanguageModel):
    """The tokenizer of this model is made to lose the trigger."""

    class Forgetful:
        def __getattr__(self, name: str):
            return getattr(own, name)

        def __call__(self, text: str, **options):
            return own(text.removesuffix(" Paris"), **options)

    own = tiny_model.tokenizer
    tiny_model.tokenizer = Forgetful()
    with pytest.raises(ConceptError, match="no token of its own"):
        targeting(tiny_model, settings())


def test_a_prompt_longer_than_the_context(tiny_model: LanguageModel):
    with pytest.raises(ConceptError, match="Shorten it"):
        targeting(tiny_model, settings(prompts=("again and " * 200,)))
