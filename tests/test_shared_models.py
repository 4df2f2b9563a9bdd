"""A model that is lent to one test after another comes back as it was loaded, or does not come back."""

from pathlib import Path

import pytest
import torch

from analysis.models import LanguageModel
from tests.raw_model import raw
from tests.shared_models import lent, same_bits, shared, state


@pytest.fixture(params=["tiny_folder", "tiny_gpt2_folder"], ids=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def scale_weights(model: LanguageModel) -> None:
    with torch.no_grad():
        for parameter in model.weights.values():
            parameter.mul_(-0.0)


def leave_gradients(model: LanguageModel) -> None:
    model.logits(torch.arange(5)[None]).sum().backward()
    next(iter(model.weights.values())).requires_grad_(False)


def read(model: LanguageModel) -> None:
    model.logits(torch.arange(5)[None])


def leave_a_hook(model: LanguageModel) -> None:
    model.blocks[0].mlp_output.register_forward_hook(lambda *arguments: None)


def train(model: LanguageModel) -> None:
    raw(model).train()


def exchange_memory(model: LanguageModel) -> None:
    parameter = next(iter(model.weights.values()))
    parameter.data = parameter.data.clone()


def exchange_a_parameter(model: LanguageModel) -> None:
    linear = model.blocks[1].mlp_output
    linear.weight = torch.nn.Parameter(linear.weight.detach().clone())


def replace_a_method(model: LanguageModel) -> None:
    model.blocks[0].mlp_output.forward = lambda x: x


def change_the_configuration(model: LanguageModel) -> None:
    raw(model).config.eos_token_id = 3


def rename(model: LanguageModel) -> None:
    model.name = "other"


@pytest.mark.parametrize("change", [read, scale_weights, leave_gradients])
def test_weights_and_gradients_are_put_back(folder: Path, change):
    fresh = state(shared(folder))
    with lent(folder) as first:
        change(first)
    with lent(folder) as second:
        assert second is first
        assert same_bits(state(second), fresh)
        assert all(one.grad is None and one.requires_grad for one in second.weights.values())


@pytest.mark.parametrize(
    "change",
    [
        leave_a_hook, train, exchange_memory, exchange_a_parameter, replace_a_method, change_the_configuration, rename,
    ],
)  # fmt: skip
def test_a_model_with_another_change_is_thrown_away(folder: Path, change):
    with lent(folder) as first:
        change(first)
    with lent(folder) as second:
        assert second is not first
        assert same_bits(state(second), state(shared(folder)))


def test_two_at_once_are_two_models(folder: Path):
    with lent(folder) as first, lent(folder) as second:
        assert first is not second
