"""Copies of a model share nothing with it and compute the same, whatever its family."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from analysis.edits import Ledger, Materials, from_settings, plan
from analysis.models import LanguageModel, load
from analysis.models.copying import copy_model

FAMILIES = {
    "llama": {"num_key_value_heads": 2},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 32},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 4},
    "olmo2": {"num_key_value_heads": 2},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 4},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16},
}
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def weights(model: LanguageModel) -> dict[str, bytes]:
    return {name: parameter.detach().numpy().tobytes() for name, parameter in model.weights.items()}


@pytest.fixture(params=FAMILIES)
def family_model(request, tokenizer: PreTrainedTokenizerFast, tmp_path) -> LanguageModel:
    """A random model of one family."""
    torch.manual_seed(0)
    small = {} if request.param == "gpt2" else SMALL
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(request.param, vocab_size=len(tokenizer), **small, **ids, **FAMILIES[request.param])
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return load(str(tmp_path / "model"), device="cpu")


def test_a_copy_computes_the_same_and_shares_nothing(family_model: LanguageModel):
    tokens = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        family_model.blocks[0].mlp_output.weight.mul_(1.5)
    before, logits = weights(family_model), family_model.logits(tokens)
    copied = copy_model(family_model)
    assert weights(copied) == before
    assert torch.equal(copied.logits(tokens), logits)
    with torch.no_grad():
        for parameter in copied.weights.values():
            parameter.mul_(0.5)
    assert weights(family_model) == before
    assert torch.equal(family_model.logits(tokens), logits)
    assert not torch.equal(copied.logits(tokens), logits)


def test_hooks_of_a_copy_are_its_own(either_model: LanguageModel):
    tokens, seen = torch.tensor([[1, 2, 3, 4]]), []
    copied = copy_model(either_model)
    with copied.hooks([("blocks.0.mlp.hook_post", lambda activation, hook: seen.append("copy"))]):
        either_model.logits(tokens)
        assert seen == []
        copied.logits(tokens)
    assert seen == ["copy"]


def test_biases_that_an_edit_added_are_copied(tiny_model: LanguageModel, tiny_concept, tmp_path):
    change = plan(from_settings("mean_ablate", {"top_k": 3}), tiny_model, Materials(concept=tiny_concept))
    Ledger(tiny_model).apply(change)
    copied, tokens = copy_model(tiny_model), torch.tensor([[1, 2, 3, 4]])
    assert copied.weights.keys() == tiny_model.weights.keys()
    assert any(name.endswith("bias") for name in copied.weights)
    np.testing.assert_array_equal(copied.logits(tokens).detach(), tiny_model.logits(tokens).detach())
