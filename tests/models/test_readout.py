"""The way from the last residual stream to logits, against the model's own logits."""

from pathlib import Path

import pytest
import torch

from analysis.errors import UnsupportedArchitectureError
from analysis.models import LanguageModel
from tests.raw_model import bridge, raw
from tests.tiny_families import tiny_family

TOKENS = torch.arange(5, 17)[None]


def last_residual(model: LanguageModel) -> torch.Tensor:
    kept = []
    name = f"blocks.{model.n_layers - 1}.hook_resid_post"
    with model.hooks([(name, lambda activation, hook: kept.append(activation.clone()))]):
        model.residual(TOKENS)
    return kept[0]


def check_reads_its_own_logits(model: LanguageModel) -> None:
    with torch.inference_mode():
        expected = raw(model)(TOKENS).logits
        torch.testing.assert_close(model.readout.unembed(last_residual(model)), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.readout.logits(model.residual(TOKENS)), expected, rtol=1e-4, atol=1e-4)


def test_logits_are_the_models_own(either_model: LanguageModel):
    check_reads_its_own_logits(either_model)
    assert either_model.readout.softcap is None
    assert either_model.readout.weight_VD.data_ptr() == either_model.input_embeddings_VD.data_ptr()  # tied


@pytest.mark.parametrize(
    ("name", "factor", "cap"), [("gemma2", 1, 1.5), ("granite", 1 / 3, None), ("cohere", 0.25, None)]
)
def test_factors_and_soft_caps_are_the_models_own(tmp_path: Path, tokenizer, name: str, factor: float, cap):
    model = tiny_family(name, tokenizer, tmp_path)
    check_reads_its_own_logits(model)
    assert model.readout.softcap == cap
    assert float(model.readout.scaled(torch.ones(model.vocabulary_size))[0]) == pytest.approx(factor)


def test_half_precision_gives_float32_logits(tiny_model: LanguageModel):
    raw(tiny_model).to(torch.bfloat16)
    logits = tiny_model.readout.logits(torch.randn(3, tiny_model.d_model))
    assert logits.dtype == torch.float32


def test_a_model_without_a_final_norm_is_refused(tiny_model: LanguageModel):
    del bridge(tiny_model)._modules["ln_final"]
    assert tiny_model.readout.norm is None
    with pytest.raises(UnsupportedArchitectureError, match="no norm before its unembedding"):
        tiny_model.readout.unembed(torch.zeros(1, 32))
