"""Exact patching against a loop that patches one prompt at a time in whole forward passes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.components.circuit import Circuit, Component
from analysis.concepts import Concept
from analysis.errors import ConceptError, ConfigError, EditError
from analysis.localization import activation_patching, all_components, causal_tracing, joint_effect, normalise
from analysis.localization.forward import Run
from analysis.models import LanguageModel
from analysis.scoring.contrast_pairs import PromptPairs, pair_prompts
from tests.localization.pairs import with_a_gap
from tests.raw_model import bridge, raw

HOOKS = {"mlp": "hook_mlp_out", "head": "attn.hook_z", "neuron": "mlp.hook_post"}


def log_p(logits_PV: torch.Tensor, ids: list[int], answer: list[int]) -> float:
    """Sum of log P over the answer's tokens, from the definition."""
    return sum(float(logits_PV[p - 1].double().log_softmax(-1)[ids[p]]) for p in answer)


def by_hand(model: LanguageModel, pairs: PromptPairs, part: Component, direction: str, positions: str) -> float:
    """Mean effect of one component on log P(answer), prompt by prompt, unpadded, nothing resumed."""
    name = f"blocks.{part.layer}.{HOOKS[part.kind]}"
    effects = []
    for batch in pairs.batches:
        for b in range(len(batch.clean_BP)):
            answer = torch.where(batch.answer_BP[b])[0].tolist()
            length = answer[-1] + 1
            tokens = {
                "clean": batch.clean_BP[b : b + 1, :length],
                "corrupted": batch.corrupted_BP[b : b + 1, :length],
            }
            ids = tokens["clean"][0].tolist()
            noise = None if batch.noise_BPD is None else batch.noise_BPD[b : b + 1, :length]
            base, donor = ("corrupted", "clean") if direction == "restore" else ("clean", "corrupted")
            where = {"all": list(range(length)), "subject": torch.where(batch.subject_BP[b])[0].tolist()}
            where["last"] = [answer[0] - 1]
            seen = {}

            def add_noise(embedded, hook, noise=noise):
                return embedded + noise

            def see(activation, hook, seen=seen):
                seen["donor"] = activation.clone()

            def put(activation, hook, seen=seen, rows=where[positions]):
                activation = activation.clone()
                for p in rows:
                    if part.kind == "mlp":
                        activation[0, p] = seen["donor"][0, p]
                    else:
                        activation[0, p, part.index] = seen["donor"][0, p, part.index]
                return activation

            scores = {}
            for kind, run, hook in (("donor", donor, see), ("patched", base, put), ("base", base, None)):
                hooks = [("embed.hook_out", add_noise)] if noise is not None and run == "corrupted" else []
                hooks += [(name, hook)] if hook else []
                with bridge(model).hooks(fwd_hooks=hooks), torch.inference_mode():
                    logits = raw(model)(input_ids=tokens[run], use_cache=False).logits[0]
                scores[kind] = log_p(logits, ids, answer)
            effects.append(scores["patched"] - scores["base"])
    return (1 if direction == "restore" else -1) * float(np.mean(effects))


@pytest.mark.parametrize(
    ("corruption", "direction", "positions"),
    [
        ("swap", "restore", "all"),
        ("noise", "restore", "subject"),
        ("random", "break", "last"),
        ("noise", "break", "all"),
    ],
)
def test_effects_equal_a_hand_written_loop(
    either_model: LanguageModel, tiny_concept: Concept, corruption, direction, positions
):
    pairs = pair_prompts(either_model, tiny_concept, corruption=corruption, max_prompts=5)
    last = either_model.n_layers - 1
    parts = [
        Component(0, "mlp"),
        Component(last, "mlp"),
        Component(0, "head", 1),
        Component(last, "head", 3),
        Component(1, "neuron", 7),
    ]
    effects = activation_patching(either_model, pairs, direction=direction, positions=positions, components=parts)
    ranked = effects.ranked(("head", "mlp", "neuron"))
    assert set(ranked) == set(parts)
    for part in parts:
        expected = by_hand(either_model, pairs, part, direction, positions)
        assert ranked[part] == pytest.approx(expected, abs=2e-5), str(part)
    assert max(abs(effect) for effect in ranked.values()) > 1e-3


def test_a_model_that_cannot_be_resumed_gives_the_same_effects(
    either_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    pairs = pair_prompts(either_model, tiny_concept, corruption="noise", max_prompts=4)
    assert Run(either_model, pairs.batches[0], "log_p", corrupted=True).resumes
    resumed = activation_patching(either_model, pairs)
    monkeypatch.setattr(Run, "_is_resumable", lambda self: False)
    whole = activation_patching(either_model, pairs)
    np.testing.assert_allclose(resumed.mlps_L, whole.mlps_L, atol=2e-5)
    np.testing.assert_allclose(resumed.heads_LH, whole.heads_LH, atol=2e-5)


def test_a_model_that_does_more_after_its_last_layer_is_run_whole(tiny_model: LanguageModel, tiny_concept: Concept):
    """Logits that are not the unembedded residual stream must be noticed."""
    pairs = pair_prompts(tiny_model, tiny_concept, max_prompts=2)

    def double(module, inputs, output) -> None:
        output.logits = output.logits * 2

    raw(tiny_model).register_forward_hook(double)
    assert not Run(tiny_model, pairs.batches[0], "log_p", corrupted=False).resumes


@pytest.mark.parametrize("corruption", ["swap", "noise"])
@pytest.mark.parametrize("direction", ["restore", "break"])
def test_all_components_together_carry_the_whole_answer(
    either_model: LanguageModel, tiny_concept: Concept, corruption, direction
):
    """Where a token is the same in both runs, its final residual is the embedding plus what the components write."""
    pairs = pair_prompts(either_model, tiny_concept, corruption=corruption, max_prompts=6)
    everything = Circuit(shape=either_model.component_shape, components=all_components(either_model))
    pairs = with_a_gap(either_model, pairs)
    assert joint_effect(either_model, pairs, everything, direction=direction) == pytest.approx(1.0, abs=1e-4)


def test_the_joint_effect_of_one_component_is_its_normalised_effect(either_model: LanguageModel, tiny_concept: Concept):
    pairs = with_a_gap(either_model, pair_prompts(either_model, tiny_concept, max_prompts=6))
    part = Component(0, "mlp")
    for direction in ("restore", "break"):
        effects = normalise(activation_patching(either_model, pairs, components=[part], direction=direction))
        circuit = Circuit(shape=either_model.component_shape, components=(part,))
        joint = joint_effect(either_model, pairs, circuit, direction=direction)
        assert effects.mlps_L[0] == pytest.approx(joint, rel=1e-4)
        assert np.isnan(effects.mlps_L[1:]).all()
        assert np.isnan(effects.heads_LH).all()


def test_a_layer_that_writes_nothing_has_no_effect(tiny_model: LanguageModel, tiny_concept: Concept):
    with torch.no_grad():
        tiny_model.blocks[1].mlp_output.weight.zero_()
    pairs = pair_prompts(tiny_model, tiny_concept, max_prompts=4)
    effects = activation_patching(tiny_model, pairs)
    assert effects.mlps_L[1] == 0
    assert (np.abs(effects.mlps_L[[0, 2]]) > 0).all()


def test_causal_tracing_is_restoring_under_noise(tiny_model: LanguageModel, tiny_concept: Concept):
    noisy = pair_prompts(tiny_model, tiny_concept, corruption="noise", max_prompts=4)
    traced = causal_tracing(tiny_model, noisy)
    np.testing.assert_array_equal(traced.mlps_L, activation_patching(tiny_model, noisy).mlps_L)
    assert traced.method == "causal tracing"
    with pytest.raises(ConfigError, match="noise"):
        causal_tracing(tiny_model, pair_prompts(tiny_model, tiny_concept, max_prompts=4))


def test_progress_rises_to_one_and_nothing_stays_hooked(tiny_model: LanguageModel, tiny_concept: Concept):
    pairs = pair_prompts(tiny_model, tiny_concept, max_prompts=6)
    tokens = pairs.batches[0].clean_BP
    before = tiny_model.logits(tokens)
    hooked = [len(block._forward_pre_hooks) for block in bridge(tiny_model).blocks]
    shares: list[float] = []
    activation_patching(tiny_model, pairs, progress=lambda stage, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert torch.equal(tiny_model.logits(tokens), before)
    assert [len(block._forward_pre_hooks) for block in bridge(tiny_model).blocks] == hooked


def test_wrong_settings_are_refused(tiny_model: LanguageModel, tiny_concept: Concept, unchecked_types):
    pairs = pair_prompts(tiny_model, tiny_concept, max_prompts=2)
    with pytest.raises(ConfigError, match="no metric"):
        activation_patching(tiny_model, pairs, metric="accuracy")
    with pytest.raises(ConfigError, match="no direction"):
        activation_patching(tiny_model, pairs, direction="sideways")
    with pytest.raises(ConfigError, match="no choice of positions"):
        activation_patching(tiny_model, pairs, positions="first")
    with pytest.raises(ConfigError, match="no component"):
        activation_patching(tiny_model, pairs, components=[])
    with pytest.raises(EditError, match="outside"):
        activation_patching(tiny_model, pairs, components=[Component(9, "mlp")])
    with pytest.raises(ConfigError, match="empty"):
        joint_effect(tiny_model, pairs, Circuit(shape=tiny_model.component_shape, components=()))


def test_without_a_gap_there_are_no_shares(tiny_model: LanguageModel, tiny_concept: Concept):
    pairs = pair_prompts(tiny_model, tiny_concept, corruption="noise", max_prompts=4, noise_scale=0.0)
    effects = activation_patching(tiny_model, pairs, components=[Component(0, "mlp")])
    with pytest.raises(ConceptError, match="nothing to trace"):
        normalise(effects)
    with pytest.raises(ConfigError, match="does not say"):
        normalise(replace(effects, provenance={}))
