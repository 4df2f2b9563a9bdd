"""What cannot be used is refused in one or two sentences that say what to do instead."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import PreTrainedTokenizerFast

from analysis import models
from analysis.errors import MissingHookError, ModelFileError, PalimpsestError, UnsupportedArchitectureError, brief

_SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
OTHER_KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "T5ForConditionalGeneration": (
        {"d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 4, "d_kv": 8},
        "encoder-decoder",
    ),
    "BartForConditionalGeneration": (
        {
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
        },
        "encoder-decoder",
    ),
    "PhimoeForCausalLM": (_SMALL | {"num_key_value_heads": 2, "num_local_experts": 2}, "cannot wrap PhimoeForCausalLM"),
    "FalconForCausalLM": (
        {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_kv_heads": 2,
            "new_decoder_architecture": True, "ffn_hidden_size": 48,
        },
        "cannot wrap FalconForCausalLM",
    ),
    "OpenAIGPTLMHeadModel": (
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "afn": "gelu"},
        "computes past the hook blocks.0.hook_resid_post",
    ),
    "ViTForImageClassification": (_SMALL | {"image_size": 8, "patch_size": 4}, "not a causal language model"),
}  # fmt: skip


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def refused(folder: Path, kind: type[PalimpsestError] | tuple[type[PalimpsestError], ...], match: str) -> str:
    """The message, which is short and advises no installation."""
    with pytest.raises(kind, match=match) as caught:
        models.load(str(folder), device="cpu")
    message = str(caught.value)
    assert len(message) < 330
    assert "pip install" not in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("architecture", OTHER_KINDS)
def test_other_kinds_of_models(architecture: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path):
    settings, match = OTHER_KINDS[architecture]
    kind = getattr(transformers, architecture)
    sizes = {} if "ViT" in architecture else {"vocab_size": len(tokenizer)}
    kind(kind.config_class(**sizes, **settings)).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    refused(tmp_path / "other", (MissingHookError, UnsupportedArchitectureError), match)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8", "compressed-tensors", "mxfp4"])
@pytest.mark.parametrize("original", ["meta-llama/Llama-3.2-1B", "/models/some folder", None])
def test_quantized_weights(method: str, original: str | None, folder: Path, change_config):
    quantization = {"quant_method": method, "bits": 4, "load_in_4bit": True, "config_groups": {}}
    change_config(folder, quantization_config=quantization, _name_or_path=original)
    message = refused(folder, UnsupportedArchitectureError, "quantized")
    assert method in message
    assert ("meta-llama/Llama-3.2-1B" in message) == (original == "meta-llama/Llama-3.2-1B")


@pytest.fixture
def change_config() -> Callable[..., None]:
    def changed(folder: Path, **settings: Any) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return changed


def test_a_folder_without_a_tokenizer(folder: Path):
    for path in folder.glob("token*"):
        path.unlink()
    refused(folder, ModelFileError, "The tokenizer in .* is missing")


def test_another_librarys_error_is_cut_to_its_first_sentence():
    assert brief(ValueError("Unknown model. Known are a, b\nand c.")) == "Unknown model"
    assert brief(KeyError()) == "KeyError"
    assert len(brief(ValueError("x" * 1000))) < 170
