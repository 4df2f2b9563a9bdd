"""A forward pass taken up again from the middle gives what the whole pass gives."""

import torch

from analysis.models import LanguageModel
from tests.raw_model import bridge

TOKENS = torch.arange(5, 17)[None]


def last_post(model: LanguageModel) -> str:
    return f"blocks.{model.n_layers - 1}.hook_resid_post"


def test_every_start_leads_to_the_same_end(either_model: LanguageModel):
    kept = []
    keep = (last_post(either_model), lambda activation, hook: kept.append(activation.clone()))
    with torch.inference_mode(), either_model.hooks([keep]), either_model.record_block_inputs() as inputs:
        either_model.residual(TOKENS)
    assert inputs.is_complete
    with torch.inference_mode():
        for first in range(either_model.n_layers):
            assert torch.equal(inputs.run(first, either_model.n_layers), kept[0])


def test_hooks_act_on_what_is_run_again(tiny_model: LanguageModel):
    last = tiny_model.n_layers - 1
    with torch.inference_mode(), tiny_model.record_block_inputs() as inputs:
        tiny_model.residual(TOKENS)
        silent = [(f"blocks.{last}.{name}", lambda x, hook: x * 0) for name in ("hook_attn_out", "hook_mlp_out")]
        with tiny_model.hooks(silent):
            assert torch.equal(inputs.run(last, last + 1), inputs.run(last, last))


def test_only_one_pass_is_recorded(tiny_model: LanguageModel):
    hooked = [len(block._forward_pre_hooks) for block in bridge(tiny_model).blocks]
    with tiny_model.record_block_inputs() as inputs:
        assert not inputs.is_complete
        tiny_model.residual(TOKENS)
    assert inputs.is_complete
    tiny_model.residual(TOKENS)
    assert inputs.is_complete
    assert [len(block._forward_pre_hooks) for block in bridge(tiny_model).blocks] == hooked
    with tiny_model.record_block_inputs() as twice:
        tiny_model.residual(TOKENS)
        tiny_model.residual(TOKENS)
    assert not twice.is_complete
