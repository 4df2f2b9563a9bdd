"""Path patching against residual arithmetic from the weights, and against freezing every component by hand."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from analysis.concepts import Concept
from analysis.errors import ConceptError, ConfigError, EditError, UnsupportedArchitectureError
from analysis.localization import direct_effects, forward, lookup_by_paths, path_effects
from analysis.localization.forward import Run
from analysis.models import LanguageModel
from analysis.scoring.contrast_pairs import PairBatch, PromptPairs, pair_prompts
from tests.localization.pairs import with_a_gap
from tests.raw_model import bridge, raw


def last_logits(model: LanguageModel, residual_BPD: torch.Tensor) -> torch.Tensor:
    """Final norm and unembedding, written out."""
    weights = stored_weights(model)
    x = residual_BPD.double()
    if "ln_f.weight" in weights:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.pow(2).mean(-1, keepdim=True) + raw(model).config.layer_norm_epsilon).sqrt()
        return (x * weights["ln_f.weight"] + weights["ln_f.bias"]) @ weights["wte.weight"].T
    x = x / (x.pow(2).mean(-1, keepdim=True) + raw(model).config.rms_norm_eps).sqrt()
    return (x * weights["model.norm.weight"]) @ weights["model.embed_tokens.weight"].T


def difference(logits_BPV: torch.Tensor, batch: PairBatch) -> torch.Tensor:
    """The answer's logit minus its rivals', from the contrast weights, row by row."""
    values = []
    for b in range(len(logits_BPV)):
        p = torch.where(batch.answer_BP[b])[0][0] - 1
        values.append((logits_BPV[b, p, batch.candidates_K].double() * batch.contrast_BK[b].double()).sum())
    return torch.stack(values)


def cached(model: LanguageModel, batch: PairBatch, corrupted: bool) -> dict[str, torch.Tensor]:
    """All activations of one run."""
    tokens = batch.corrupted_BP if corrupted else batch.clean_BP
    kept = {}
    names = [f"blocks.{layer}.{hook}" for layer in range(model.n_layers) for hook in (
        "attn.hook_z", "hook_mlp_out", "hook_attn_out", "hook_resid_pre", "hook_resid_post")]  # fmt: skip

    def keep(name):
        def hook(activation, hook):
            kept[name] = activation.clone()

        return hook

    hooks = [*batch.corruption_hooks(), *((name, keep(name)) for name in names)] if corrupted else [
        (name, keep(name)) for name in names
    ]  # fmt: skip
    with bridge(model).hooks(fwd_hooks=hooks), torch.inference_mode():
        kept["logits"] = raw(model)(input_ids=tokens, use_cache=False).logits
    return kept


def gap_of(model: LanguageModel, pairs: PromptPairs) -> tuple[float, float]:
    clean = torch.cat([difference(cached(model, batch, False)["logits"], batch) for batch in pairs.batches])
    corrupted = torch.cat([difference(cached(model, batch, True)["logits"], batch) for batch in pairs.batches])
    return float(clean.mean()), float(corrupted.mean())


@pytest.fixture
def pairs(either_model: LanguageModel, tiny_concept: Concept) -> PromptPairs:
    return favourable(either_model, tiny_concept)


def favourable(model: LanguageModel, concept: Concept) -> PromptPairs:
    return with_a_gap(model, pair_prompts(model, concept, corruption="random", max_prompts=8), "logit_difference")


def stored_weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    """The weights under their original names, from the file."""
    found = load_file(model.source.path / "model.safetensors")
    return {name.removeprefix("transformer."): weight.double() for name, weight in found.items()}


@pytest.mark.parametrize("direction", ["break", "restore"])
def test_direct_effects_equal_residual_arithmetic(either_model: LanguageModel, pairs: PromptPairs, direction: str):
    effects = direct_effects(either_model, pairs, direction=direction)
    clean_mean, corrupted_mean = gap_of(either_model, pairs)
    weights = stored_weights(either_model)
    d_head = either_model.d_head
    for layer in range(either_model.n_layers):
        name = f"model.layers.{layer}.self_attn.o_proj.weight"
        # GPT-2 stores [in, out], Llama [out, in]
        w_o = weights[name].T if name in weights else weights[f"h.{layer}.attn.c_proj.weight"]
        for head in range(either_model.n_heads):
            total = 0.0
            for batch in pairs.batches:
                base, donor = (cached(either_model, batch, side == direction) for side in ("restore", "break"))
                final = base[f"blocks.{either_model.n_layers - 1}.hook_resid_post"].double()
                change = (donor[f"blocks.{layer}.attn.hook_z"] - base[f"blocks.{layer}.attn.hook_z"]).double()
                written = change[:, :, head] @ w_o[head * d_head : (head + 1) * d_head]
                patched = difference(last_logits(either_model, final + written), batch)
                total += float((patched - difference(base["logits"], batch)).sum())
            width = (clean_mean - corrupted_mean) * (1 if direction == "restore" else -1)
            expected = total / pairs.n_prompts / width
            assert effects.heads_LH[layer, head] == pytest.approx(expected, abs=2e-4)
    assert np.isnan(effects.mlps_L).all()
    assert np.abs(effects.heads_LH).max() > 1e-3


def test_the_direct_effects_of_all_writers_make_up_the_final_residual(either_model: LanguageModel, pairs: PromptPairs):
    """Independent check of what is exchanged: all heads' and MLPs' contributions plus the embedding are the stream."""
    for batch in pairs.batches:
        kept = cached(either_model, batch, corrupted=False)
        total = kept["blocks.0.hook_resid_pre"] + sum(
            kept[f"blocks.{layer}.{hook}"]
            for layer in range(either_model.n_layers)
            for hook in ("hook_attn_out", "hook_mlp_out")
        )
        final = kept[f"blocks.{either_model.n_layers - 1}.hook_resid_post"]
        torch.testing.assert_close(total, final, atol=1e-4, rtol=1e-4)


def frozen_paths(model: LanguageModel, pairs: PromptPairs, heads, sender: int, direction: str) -> float:
    """Wang et al.'s three passes: all outputs frozen but the sender's, receivers recorded, receivers patched."""
    total = 0.0
    for batch in pairs.batches:
        base, donor = (cached(model, batch, side == direction) for side in ("restore", "break"))
        tokens = batch.corrupted_BP if direction == "restore" else batch.clean_BP
        noise = batch.corruption_hooks() if direction == "restore" else []
        recorded = {}

        def freeze(value):
            return lambda activation, hook: value

        def record(layer, into=recorded):
            def hook(activation, hook):
                into[layer] = activation.clone()

            return hook

        hooks = list(noise)
        for layer in range(model.n_layers):
            mlp = f"blocks.{layer}.hook_mlp_out"
            hooks.append((mlp, freeze(donor[mlp] if layer == sender else base[mlp])))
            attention = f"blocks.{layer}.hook_attn_out"
            hooks.append((attention, freeze(base[attention])))
            hooks.append((f"blocks.{layer}.attn.hook_z", record(layer)))
        with bridge(model).hooks(fwd_hooks=hooks), torch.inference_mode():
            raw(model)(input_ids=tokens, use_cache=False)

        def put(layer, chosen, z=recorded):
            def hook(activation, hook):
                activation = activation.clone()
                for head in chosen:
                    activation[:, :, head] = z[layer][:, :, head]
                return activation

            return hook

        by_layer = {layer: [h for m, h in heads if m == layer] for layer, _ in heads if layer > sender}
        hooks = [*noise, *((f"blocks.{layer}.attn.hook_z", put(layer, chosen)) for layer, chosen in by_layer.items())]
        with bridge(model).hooks(fwd_hooks=hooks), torch.inference_mode():
            logits = raw(model)(input_ids=tokens, use_cache=False).logits
        total += float((difference(logits, batch) - difference(base["logits"], batch)).sum())
    clean, corrupted = gap_of(model, pairs)
    return total / pairs.n_prompts / (clean - corrupted) * (1 if direction == "restore" else -1)


@pytest.mark.parametrize("direction", ["break", "restore"])
def test_paths_to_heads_equal_freezing_everything_else(either_model: LanguageModel, pairs: PromptPairs, direction: str):
    last = either_model.n_layers - 1
    heads = [(1, 0), (last, 2), (last, 3)]
    effects = path_effects(either_model, pairs, heads, direction=direction)
    for sender in range(last):
        expected = frozen_paths(either_model, pairs, heads, sender, direction)
        assert effects.mlps_L[sender] == pytest.approx(expected, abs=2e-4)
    assert np.isnan(effects.mlps_L[last])
    assert np.nanmax(np.abs(effects.mlps_L)) > 1e-3


def test_paths_into_the_stream_equal_a_changed_stream(either_model: LanguageModel, pairs: PromptPairs):
    last = either_model.n_layers - 1
    effects = path_effects(either_model, pairs, [(last, 1)], receivers="stream")
    clean_mean, corrupted_mean = gap_of(either_model, pairs)
    for sender in range(last):
        total = 0.0
        for batch in pairs.batches:
            base, donor = cached(either_model, batch, False), cached(either_model, batch, True)
            output, entry = f"blocks.{sender}.hook_mlp_out", f"blocks.{last}.hook_resid_pre"
            changed = base[entry] + donor[output] - base[output]
            with (
                bridge(either_model).hooks(fwd_hooks=[(entry, lambda activation, hook, c=changed: c)]),
                torch.inference_mode(),
            ):
                logits = raw(either_model)(input_ids=batch.clean_BP, use_cache=False).logits
            total += float((difference(logits, batch) - difference(base["logits"], batch)).sum())
        expected = total / pairs.n_prompts / (corrupted_mean - clean_mean)
        assert effects.mlps_L[sender] == pytest.approx(expected, abs=2e-4)


def test_heads_that_write_nothing_have_no_paths(tiny_model: LanguageModel, tiny_concept: Concept):
    """A head whose output weights are zero writes nothing, and nothing reaches the output through it."""
    d_head = tiny_model.d_head
    with torch.no_grad():
        tiny_model.head_weights(2)[-1].parameter[:, d_head : 2 * d_head] = 0
    pairs = favourable(tiny_model, tiny_concept)
    effects_LH = np.abs(direct_effects(tiny_model, pairs).heads_LH)
    # the exchange adds its output to the float32 stream and takes the same output off again, which rounds: some 1e-7 of
    # the logits, where the other heads move them by tenths
    assert effects_LH[2, 1] < 1e-5 * effects_LH.max()
    assert np.abs(path_effects(tiny_model, pairs, [(2, 1)]).mlps_L[:2]).max() < 1e-6


def test_fact_lookup_keeps_what_reaches_the_threshold(tiny_model: LanguageModel, tiny_concept: Concept):
    pairs = favourable(tiny_model, tiny_concept)
    shares: list[float] = []
    effects, circuit = lookup_by_paths(
        tiny_model,
        pairs,
        n_heads=3,
        threshold=1e-6,
        with_heads=True,
        progress=lambda stage, share: shares.append(share),
    )
    direct = direct_effects(tiny_model, pairs)
    heads = {(p.layer, p.index) for p in direct.circuit(top=3, kinds=("head",)).components}
    assert set(circuit.heads) == heads
    through = path_effects(tiny_model, pairs, sorted(heads)).mlps_L
    assert circuit.mlp_layers == tuple(np.flatnonzero(np.abs(np.nan_to_num(through)) >= 1e-6))
    np.testing.assert_array_equal(effects.heads_LH, direct.heads_LH)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    with pytest.raises(EditError, match="threshold"):
        lookup_by_paths(tiny_model, pairs, n_heads=3, threshold=1e6)


def test_wrong_settings_are_refused(tiny_model: LanguageModel, tiny_concept: Concept, unchecked_types):
    pairs = favourable(tiny_model, tiny_concept)
    with pytest.raises(ConfigError, match="no metric"):
        direct_effects(tiny_model, pairs, metric="accuracy")
    with pytest.raises(ConfigError, match="no direction"):
        direct_effects(tiny_model, pairs, direction="sideways")
    with pytest.raises(ConfigError, match="no choice of receivers"):
        path_effects(tiny_model, pairs, [(1, 1)], receivers="all")
    with pytest.raises(ConfigError, match="at least one"):
        path_effects(tiny_model, pairs, [])
    with pytest.raises(EditError, match="outside"):
        path_effects(tiny_model, pairs, [(1, 9)])
    with pytest.raises(UnsupportedArchitectureError, match="lies before"):
        path_effects(tiny_model, pairs, [(0, 1)])
    unspoilt = pair_prompts(tiny_model, tiny_concept, corruption="noise", noise_scale=0.0, max_prompts=3)
    with pytest.raises(ConceptError, match="nothing to trace"):
        direct_effects(tiny_model, unspoilt)


def test_a_stream_that_is_no_plain_sum_is_refused(tiny_model: LanguageModel, tiny_concept: Concept):
    """A block that scales what its MLP writes, as Granite's do."""
    bridge(tiny_model).blocks[0].mlp.register_forward_hook(lambda module, inputs, output: output * 0.5)
    pairs = favourable(tiny_model, tiny_concept)
    with pytest.raises(UnsupportedArchitectureError, match="not a plain sum"):
        direct_effects(tiny_model, pairs)
    with pytest.raises(UnsupportedArchitectureError, match="not a plain sum"):
        path_effects(tiny_model, pairs, [(2, 1)])


def test_logits_that_are_not_read_off_the_stream_are_refused(tiny_model: LanguageModel, tiny_concept: Concept):
    def double(module, inputs, output) -> None:
        output.logits = output.logits * 2

    raw(tiny_model).register_forward_hook(double)
    with pytest.raises(UnsupportedArchitectureError, match="not a plain sum"):
        direct_effects(tiny_model, favourable(tiny_model, tiny_concept))


def test_heads_are_unembedded_in_portions(tiny_model: LanguageModel, tiny_concept: Concept, monkeypatch):
    """However few residual streams fit through the unembedding at once."""
    pairs = favourable(tiny_model, tiny_concept)
    together = direct_effects(tiny_model, pairs).heads_LH
    monkeypatch.setattr(forward, "_LOGITS_AT_ONCE", 1)
    np.testing.assert_allclose(direct_effects(tiny_model, pairs).heads_LH, together, atol=1e-5)


def test_log_p_can_be_the_metric(tiny_model: LanguageModel, tiny_concept: Concept):
    pairs = with_a_gap(tiny_model, pair_prompts(tiny_model, tiny_concept, corruption="random", max_prompts=6))
    effects = direct_effects(tiny_model, pairs, metric="log_p")
    clean = torch.cat([Run(tiny_model, b, "log_p", corrupted=False).score_B for b in pairs.batches]).mean()
    assert effects.provenance["clean"] == pytest.approx(float(clean), rel=1e-5)
    assert np.isfinite(effects.heads_LH).all()
