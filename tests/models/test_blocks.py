"""A block's view: its modules and norms are those that write, whatever the family."""

from pathlib import Path

import pytest
import torch

from analysis.errors import UnsupportedArchitectureError
from analysis.models import LanguageModel
from analysis.models.linear_layers import Linear, lies_inside
from tests.raw_model import bridge, raw
from tests.tiny_families import tiny_family

TOKENS = torch.arange(5, 17)[None]


def recorded(model: LanguageModel, *names: str) -> list[torch.Tensor]:
    kept: dict[str, torch.Tensor] = {}

    def keep(name: str):
        return lambda activation, hook: kept.__setitem__(name, activation.clone())

    with model.hooks([(name, keep(name)) for name in names]), torch.inference_mode():
        model.residual(TOKENS)
    return [kept[name] for name in names]


def check_attention_writes(model: LanguageModel) -> None:
    z_BPHZ, pre, attention, mlp, post = recorded(
        model,
        *(f"blocks.1.{name}" for name in ("attn.hook_z", "hook_resid_pre", "hook_attn_out", "hook_mlp_out")),
        "blocks.1.hook_resid_post",
    )
    with torch.inference_mode():
        written = model.blocks[1].attention_writes(z_BPHZ)
    torch.testing.assert_close(written, attention, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pre + written + mlp, post, rtol=1e-5, atol=1e-5)


def test_attention_writes_what_its_hook_sees(either_model: LanguageModel):
    check_attention_writes(either_model)
    block = either_model.blocks[1]
    assert (block.norm_after_attention, block.norm_after_mlp) == (None, None)
    assert block.norm_before_mlp is not None
    assert block.mlp_output.weight is either_model.neuron_weights(1)[-1].parameter
    assert block.attention_output.weight is either_model.head_weights(1)[-1].parameter


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("cohere", "input_layernorm", (None, None)),
        ("gemma2", "pre_feedforward_layernorm", ("post_attention_layernorm", "post_feedforward_layernorm")),
        ("olmo2", None, ("post_attention_layernorm", "post_feedforward_layernorm")),
    ],
)
def test_norms_lie_where_the_family_puts_them(tmp_path: Path, tokenizer, name: str, before, after):
    model = tiny_family(name, tokenizer, tmp_path)
    check_attention_writes(model)
    block, layer = model.blocks[1], raw(model).model.layers[1]
    for norm, own in zip((block.norm_before_mlp, block.norm_after_attention, block.norm_after_mlp), (before, *after)):
        if own is None:
            assert norm is None
        else:
            assert norm is not None
            assert norm.module.weight is getattr(layer, own).weight


def test_the_linear_layers_that_are_run_are_the_parts(tiny_gpt2: LanguageModel, tiny_model: LanguageModel):
    shapes = [(one.n_inputs, one.n_outputs) for one in tiny_gpt2.blocks[0].linears()]
    assert sorted(shapes) == [(32, 32)] * 4 + [(32, 64), (64, 32)]  # q, k, v, o and the MLP: no (32, 96)
    assert len(tiny_model.blocks[0].linears()) == 7


def test_a_part_lies_inside_the_whole():
    whole = torch.zeros(6, 4)
    assert lies_inside(whole[2:4], whole)
    assert not lies_inside(whole, whole)
    assert not lies_inside(whole[2:4].clone(), whole)


def test_a_linear_layer_knows_which_axis_counts_outputs(either_model: LanguageModel):
    linear = Linear(either_model.blocks[0].mlp_output)
    assert (linear.n_inputs, linear.n_outputs) == (either_model.n_neurons, either_model.d_model)
    assert linear.stores_in_out is (either_model.architecture == "GPT2LMHeadModel")
    assert either_model.neuron_weights(0)[-1].axis == 1 - linear.output_axis


def test_attention_without_an_output_projection_is_refused(tiny_model: LanguageModel):
    del bridge(tiny_model).blocks[0].attn._modules["o"]
    with pytest.raises(UnsupportedArchitectureError, match="Layer 0"):
        _ = tiny_model.blocks[0].attention_output
