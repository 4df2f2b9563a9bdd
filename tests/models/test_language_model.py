"""A loaded model: its dimensions, its logits, its hooks, and all that a neuron acts through."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from analysis.components.neurons import hook_name
from analysis.errors import MissingHookError, UnsupportedArchitectureError
from analysis.models import LanguageModel
from analysis.models.language_model import EMBEDDING_HOOK
from tests.raw_model import bridge, raw
from tests.tiny_families import LOADABLE, tiny_family

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


def test_missing_hooks_are_refused_by_name(tiny_model: LanguageModel):
    tiny_model.require_hooks([hook_name(0), "blocks.0.hook_resid_pre"], "a test")
    with pytest.raises(MissingHookError, match=r"no hook blocks\.7\.hook_in, which a test needs"):
        tiny_model.require_hooks([hook_name(0), "blocks.7.hook_in"], "a test")


def test_embeddings_can_stand_for_tokens(either_model: LanguageModel):
    tokens = torch.tensor([either_model.encode(TEXT).ids])
    with torch.inference_mode():
        embedded = either_model.embed(tokens)
        assert torch.equal(embedded, either_model.input_embeddings_VD[tokens])
        torch.testing.assert_close(either_model.logits_from_embeddings(embedded), either_model.logits(tokens))


@pytest.mark.parametrize("name", ["gemma2", "granite"])
def test_embeddings_are_scaled_once(tmp_path: Path, tokenizer, name: str):
    """Gemma's factor is applied at the look-up, Granite's after it: either way what is embedded stands for tokens."""
    model = tiny_family(name, tokenizer, tmp_path)
    tokens = torch.tensor([model.encode(TEXT).ids])
    with torch.inference_mode():
        embedded = model.embed(tokens)
        factor = 32**0.5 if name == "gemma2" else 1
        torch.testing.assert_close(embedded, factor * model.input_embeddings_VD[tokens], rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(model.logits_from_embeddings(embedded), model.logits(tokens))


@pytest.mark.parametrize("name", LOADABLE)
def test_embeddings_put_in_at_the_hook_stand_for_tokens(tmp_path: Path, tokenizer, name: str):
    model = tiny_family(name, tokenizer, tmp_path)
    tokens = torch.tensor([model.encode(TEXT).ids])
    embedded = model.embed_at_hook(tokens)
    with torch.inference_mode():
        with model.hooks([(EMBEDDING_HOOK, lambda activation, hook: embedded)]):
            logits = model.logits(torch.zeros_like(tokens))
        torch.testing.assert_close(logits, model.logits(tokens))
        torch.testing.assert_close(model.logits_from_embeddings(model.embed(tokens)), model.logits(tokens))


def test_a_model_that_takes_no_embeddings_is_refused(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    def forward(self, input_ids=None, use_cache=False):
        """Tokens only."""

    monkeypatch.setattr(type(raw(tiny_model)), "forward", forward)
    with pytest.raises(UnsupportedArchitectureError, match="takes no embeddings"):
        tiny_model.logits_from_embeddings(torch.zeros(1, 2, 32))


def test_a_cache_goes_on_where_the_last_call_stopped(either_model: LanguageModel):
    tokens = torch.tensor([either_model.encode(TEXT).ids])
    with torch.inference_mode():
        first, cache = either_model.logits_and_cache(tokens[:, :4])
        second, _ = either_model.logits_and_cache(tokens[:, 4:], cache)
        expected = either_model.logits(tokens)
    torch.testing.assert_close(torch.cat([first, second], dim=1), expected, rtol=1e-4, atol=1e-4)


def test_linear_layers_have_plain_names_but_in_fused_attention(either_model: LanguageModel):
    linears = either_model.named_linears()
    plain = type(raw(either_model)).from_pretrained(either_model.source.path)
    modules = dict(plain.named_modules())
    renamed = {f"transformer.h.{layer}.attn.{part}" for layer in range(2) for part in ("q", "k", "v", "qkv", "o")}
    assert linears.keys() - modules.keys() == (renamed if either_model.architecture == "GPT2LMHeadModel" else set())
    for name in linears.keys() & modules.keys():
        assert torch.equal(linears[name].weight, modules[name].weight)


@pytest.mark.parametrize("family", ["gpt2", "phi3"])
def test_parts_of_fused_projections_are_stored_in_the_whole(tmp_path: Path, tokenizer, tiny_gpt2, family: str):
    model = tiny_gpt2 if family == "gpt2" else tiny_family(family, tokenizer, tmp_path)
    stored = {id(parameter) for parameter in model.weights.values()}
    parts = [parameter for parameter in model.parameters() if id(parameter) not in stored]
    assert parts
    for part in parts:
        whole = model.stored_parameter(part)
        assert whole is not None
        assert id(whole) in stored
    for parameter in model.weights.values():
        assert model.stored_parameter(parameter) is parameter
    assert model.stored_parameter(torch.nn.Parameter(torch.zeros(3))) is None


@pytest.mark.slow_model
def test_default_model(default_model: LanguageModel):
    assert (default_model.name, default_model.shape, default_model.d_model) == ("smollm2-135m", (30, 1536), 576)
    with torch.inference_mode():
        logits = default_model.logits(torch.tensor([default_model.encode("The capital of France is").ids]), keep=1)
    assert default_model.decode([int(logits[0, -1].argmax())]) == " Paris"
