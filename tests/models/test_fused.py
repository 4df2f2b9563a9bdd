"""Fused projections: every listed parameter is one that the forward pass reads, and nothing it reads is left out."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from analysis.errors import UnsupportedArchitectureError
from analysis.models import LanguageModel, fused
from tests.raw_model import bridge, raw
from tests.tiny_families import FUSED, LOADABLE, tiny_family

COPIED = ("bloom", "codegen", "falcon", "mpt", "neox")


def logits(model: LanguageModel) -> Tensor:
    return model.logits(torch.tensor([model.encode("The capital of France is Paris").ids]))


def parts(model: LanguageModel, whole: torch.nn.Parameter) -> list[torch.nn.Parameter]:
    """The views in which `whole` is read, or `whole` itself."""
    found = [one for one in model.views.values() if model.stored_parameter(one) is whole]
    return found or [whole]


@pytest.mark.parametrize("name", LOADABLE)
def test_what_is_listed_is_what_the_forward_pass_reads(tmp_path: Path, tokenizer, name: str):
    model = tiny_family(name, tokenizer, tmp_path)
    torch.manual_seed(0)
    (logits(model) * torch.randn_like(logits(model))).sum().backward()
    listed = {part for whole in model.weights.values() for part in parts(model, whole)}
    with_gradient = {one for one in raw(model).parameters() if one.grad is not None}
    assert listed == with_gradient
    flat = {
        key
        for key, one in model.weights.items()
        if all(part.grad is None or not part.grad.any() for part in parts(model, one))
    }
    # a key's bias cancels in the softmax, exactly or up to rounding
    assert not {key for key in flat if not key.endswith("bias")}
    with torch.no_grad():
        before = logits(model)
        for key, weight in model.weights.items():
            old = weight.clone()
            weight.add_(0.5 * torch.randn_like(weight))
            changed = not torch.equal(logits(model), before)
            weight.copy_(old)
            assert changed, key
        assert torch.equal(logits(model), before)


@pytest.mark.parametrize("name", LOADABLE)
def test_stored_weights_are_those_of_plain_transformers(tmp_path: Path, tokenizer, name: str):
    model = tiny_family(name, tokenizer, tmp_path)
    stored = dict(AutoModelForCausalLM.from_pretrained(tmp_path / name).named_parameters())
    ours = model.stored_weights()
    assert ours.keys() == stored.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in stored.items())
    assert model.n_parameters == sum(tensor.numel() for tensor in stored.values())


@pytest.mark.parametrize("name", COPIED)
def test_what_is_written_to_a_copy_is_in_the_stored_weight(tmp_path: Path, tokenizer, name: str):
    model = tiny_family(name, tokenizer, tmp_path)
    splits = fused.splits(bridge(model).blocks, name)
    assert splits
    split = splits[0]
    assert sum(len(part) for part in split.parts) == len(split.stored)
    with torch.no_grad():
        split.parts[1][2] = 7.0
    changed = (split.composed() != split.stored).flatten(1).any(1).nonzero().flatten().tolist()
    assert changed == [int(split.rows[1][2])]
    assert not any(one is split.stored for one in model.weights.values())


@pytest.mark.parametrize("name", FUSED)
def test_linear_layers_of_blocks_are_those_that_are_run(tmp_path: Path, tokenizer, name: str):
    model = tiny_family(name, tokenizer, tmp_path)
    logits(model).sum().backward()
    assert all(one.weight.grad is not None for block in model.blocks for one in block.linears())
    named = {id(one.weight) for one in model.named_linears().values()}
    assert not named & {id(split.stored) for split in fused.splits(bridge(model).blocks, name)}


def test_copies_that_are_not_rows_are_refused(tmp_path: Path, tokenizer):
    model = tiny_family("neox", tokenizer, tmp_path)
    with torch.no_grad():
        bridge(model).blocks[1].attn.q.original_component.weight.mul_(2)
    with pytest.raises(UnsupportedArchitectureError, match="not its rows"):
        fused.splits(bridge(model).blocks, "neox")


def test_a_family_with_other_logits_is_refused(tmp_path: Path, tokenizer):
    """TransformerLens does not scale Falcon's ALiBi as transformers does."""
    with pytest.raises(UnsupportedArchitectureError, match="other logits for this FalconForCausalLM"):
        tiny_family("falcon_rw", tokenizer, tmp_path)
