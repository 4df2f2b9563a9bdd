"""A loaded model: its dimensions, its logits, its hooks, and all that a neuron acts through."""

import pytest
import torch
from safetensors.torch import load_file

from analysis.components.neurons import hook_name
from analysis.errors import (
    MissingHookError,
)
from analysis.models import LanguageModel
from tests.raw_model import bridge, raw

TEXT = "The capital of France is Paris"


def test_dimensions_are_those_of_the_config(tiny_model: LanguageModel, tiny_gpt2: LanguageModel):
    assert tiny_model.shape == (3, 48)
    assert tiny_gpt2.shape == (2, 64)
    for model in (tiny_model, tiny_gpt2):
        assert (model.d_model, model.context_length, model.device.type) == (32, 128, "cpu")
        stored = load_file(model.source.path / "model.safetensors")
        assert model.n_parameters == sum(tensor.numel() for tensor in stored.values())
        assert model.weights.keys() == stored.keys()
        assert all(torch.equal(model.weights[name], tensor) for name, tensor in stored.items())
    assert tiny_model.name == "tiny-llama"


def test_logits_are_those_of_transformers(either_model: LanguageModel):
    tokens = torch.tensor([either_model.encode(TEXT).ids])
    with torch.inference_mode():
        plain = type(raw(either_model)).from_pretrained(either_model.source.path)(tokens).logits
        ours = either_model.logits(tokens)
        kept = either_model.logits(tokens, keep=2)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(kept, plain[:, -2:])


def test_residual_fires_every_hook_and_skips_only_the_head(either_model: LanguageModel):
    tokens = torch.tensor([either_model.encode(TEXT).ids])
    seen: list[int] = []

    def note(layer: int):
        return lambda activation, hook: seen.append(layer)

    functions = [(hook_name(layer), note(layer)) for layer in range(either_model.n_layers)]
    with either_model.hooks(functions), torch.inference_mode():
        residual = either_model.residual(tokens)
        logits = raw(either_model).lm_head(residual)
    assert seen == list(range(either_model.n_layers))
    torch.testing.assert_close(logits, either_model.logits(tokens))


def test_hooks_are_removed_after_an_error(tiny_model: LanguageModel):
    tokens, calls = torch.tensor([tiny_model.encode(TEXT).ids]), []
    with (
        pytest.raises(RuntimeError, match="inside"),
        tiny_model.hooks([(hook_name(0), lambda activation, hook: calls.append(1))]),
    ):
        raise RuntimeError("inside")
    tiny_model.residual(tokens)
    assert calls == []


@pytest.mark.parametrize("layer", [0, 1])
def test_a_neurons_slices_are_all_it_acts_through(either_model: LanguageModel, layer: int):
    """The slices must be views on the real weights: doubling the output slice doubles what the neuron writes."""
    weights = either_model.neuron_weights(layer)
    names = [weight.name for weight in weights]
    assert names == (["gate", "in", "out"] if either_model.name == "tiny-llama" else ["in", "in.bias", "out"])
    assert all(weight.parameter.shape[weight.axis] == either_model.n_neurons for weight in weights)
    tokens, seen = torch.tensor([either_model.encode(TEXT).ids]), []
    with torch.no_grad():
        for weight in weights[:-1]:
            weight.parameter.index_fill_(weight.axis, torch.tensor([7]), 0)
    with either_model.hooks([(hook_name(layer), lambda activation, hook: seen.append(activation))]):
        either_model.residual(tokens)
    silent = (seen[0] == 0).all(dim=(0, 1))
    assert silent.nonzero().flatten().tolist() == [7]


def test_encode_keeps_characters(tiny_model: LanguageModel):
    encoded = tiny_model.encode(TEXT)
    assert tiny_model.decode(encoded.ids) == TEXT
    assert "".join(TEXT[start:end] for start, end in encoded.offsets) == TEXT
    assert len(encoded) == len(encoded.ids) == len(encoded.offsets)


def test_a_missing_hook_is_named(tiny_model: LanguageModel):
    class Lacking:
        """The same bridge, without one hook."""

        def __getattr__(self, name: str):
            return getattr(bridge(tiny_model), name)

        @property
        def hook_dict(self):
            return {name: hook for name, hook in bridge(tiny_model).hook_dict.items() if name != hook_name(2)}

    with pytest.raises(MissingHookError, match=r"blocks\.2\.mlp\.hook_post"):
        LanguageModel(Lacking(), tiny_model.tokenizer, tiny_model.source, "float32")


@pytest.mark.slow_model
def test_default_model(default_model: LanguageModel):
    assert (default_model.name, default_model.shape, default_model.d_model) == ("smollm2-135m", (30, 1536), 576)
    with torch.inference_mode():
        logits = default_model.logits(torch.tensor([default_model.encode("The capital of France is").ids]), keep=1)
    assert default_model.decode([int(logits[0, -1].argmax())]) == " Paris"
