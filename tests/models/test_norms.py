"""A norm's gain, bias and centring, read off its outputs, against the numbers it was made with."""

import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from analysis.models.norms import Norm

D = 32


def layer_norm(gain_D: torch.Tensor, bias_D: torch.Tensor) -> nn.Module:
    norm = nn.LayerNorm(D)
    norm.weight.data, norm.bias.data = gain_D, bias_D
    return norm


def rms_norm(gain_D: torch.Tensor, bias_D: torch.Tensor) -> nn.Module:
    norm = LlamaRMSNorm(D)
    norm.weight.data = gain_D
    return norm


def gemma_norm(gain_D: torch.Tensor, bias_D: torch.Tensor) -> nn.Module:
    norm = Gemma2RMSNorm(D)
    norm.weight.data = gain_D - 1
    return norm


@pytest.mark.parametrize(("make", "centres"), [(layer_norm, True), (rms_norm, False), (gemma_norm, False)])
def test_gain_bias_and_centring_are_read_off(make, centres: bool):
    draw = torch.Generator().manual_seed(3)
    gain_D, bias_D = (torch.randn(D, generator=draw) for _ in range(2))
    module, x_D = make(gain_D, bias_D), 5 * torch.randn(D, generator=draw) + 2
    norm = Norm(module)
    parts = norm.parts(x_D)
    bias_D = bias_D if centres else torch.zeros(D)
    torch.testing.assert_close(parts.gain_D, gain_D, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts.bias_D, bias_D, rtol=1e-4, atol=1e-5)
    assert parts.centres is centres
    # the parts put together are the norm
    scale = parts.centred(x_D).square().mean().sqrt()
    torch.testing.assert_close(parts.at_unit_scale(x_D) / scale + bias_D, norm(x_D), rtol=1e-4, atol=1e-4)


def test_reading_leaves_no_gradient():
    parts = Norm(nn.LayerNorm(D)).parts(torch.ones(D))
    assert not parts.gain_D.requires_grad
