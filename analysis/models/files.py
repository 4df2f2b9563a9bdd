"""Loads weights and tokenizer from a folder with transformers; refuses missing weights and code from the folder."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.errors import ModelFileError, UnsupportedArchitectureError, brief

__all__ = ["read_folder"]

_NOT_WEIGHTS = re.compile(r"(^|\.)(inv_freq|rotary_emb\.\w+|(attn|attention)\.(masked_)?bias|position_ids)$")
"""Constants that older versions of transformers stored with the weights, and newer ones compute."""


def read_folder(folder: Path, dtype: str, name: str) -> tuple[nn.Module, Any]:
    """Load a transformers model in eval mode, and its fast tokenizer.

    Args:
        folder: A folder as transformers saves it, with safetensors.
        dtype: Name of a torch dtype.
        name: Name of the model, for messages.

    Raises:
        UnsupportedArchitectureError: transformers cannot load it as a causal language model without the folder's own code.
        ModelFileError: config, weights or tokenizer are damaged or incomplete, or the tokenizer is not a fast one.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **safe)
    except (OSError, ValueError, KeyError) as error:
        if "trust_remote_code" in str(error) or "model type" in str(error):
            raise UnsupportedArchitectureError(
                f"“{name}” needs code of its own or a model type this version of transformers does not know; "
                "code from a model's folder is never run. Choose another model."
            ) from error
        raise ModelFileError(
            f"{folder / 'config.json'} cannot be read ({brief(error)}). Download the model again."
        ) from error
    _check_kind(config, folder, name)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True, **safe
        )
        inner, info = loaded
    except ValueError as error:
        raise UnsupportedArchitectureError(
            f"“{name}” ({config.model_type}) is not a causal language model that transformers can load ({brief(error)}). "
            "Choose a decoder-only model."
        ) from error
    except Exception as error:  # safetensors and torch raise their own types on damaged files
        raise ModelFileError(
            f"The weights in {folder} cannot be read ({type(error).__name__}: {brief(error)}). Download or convert them again."
        ) from error
    lost = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if lost:
        raise ModelFileError(
            f"{len(lost)} weights of “{name}” are missing or of the wrong shape (first: {lost[0]}); "
            "the model would compute noise. Save or download it again."
        )
    left_out = sorted(key for key in info["unexpected_keys"] if not _NOT_WEIGHTS.search(key))
    if left_out:
        raise ModelFileError(
            f"“{name}” stores {len(left_out)} weights that the model of its config.json does not have (first: {left_out[0]}); "
            "they would be left out in silence. Save it again with the config that belongs to it."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise ModelFileError(
            f"The tokenizer in {folder} is missing or cannot be read ({brief(error)}). Save it next to the model: "
            "tokenizer.save_pretrained(folder)."
        ) from error
    if not tokenizer.is_fast:
        raise ModelFileError(
            f"“{name}” has no fast tokenizer, whose character offsets are needed to find concepts in text. "
            "Convert it: AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder)."
        )
    return inner.eval(), tokenizer


def _check_kind(config: Any, folder: Path, name: str) -> None:
    """Refuse what transformers may load, but not as a model whose weights can be read, edited and trained."""
    quantization = getattr(config, "quantization_config", None)
    if quantization is not None:
        given = quantization if isinstance(quantization, dict) else vars(quantization)
        how = getattr(given.get("quant_method", ""), "value", given.get("quant_method", "")) or "of an unknown kind"
        original = _original(folder)
        raise UnsupportedArchitectureError(
            f"“{name}” is quantized ({how}): its weights can be neither edited nor trained. Load the unquantized model "
            f"that it was made from{f', {original}' if original else '; its model card names it'}."
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedArchitectureError(
            f"“{name}” ({config.model_type}) is an encoder-decoder: its answers depend on a second stack of layers that is "
            "not shown here. Choose a decoder-only model."
        )


def _original(folder: Path) -> str:
    """The hub id that a quantizer left in config.json; empty if there is none."""
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))  # transformers has read it already
    for key in ("base_model", "base_model_name_or_path", "_name_or_path"):
        value = stored.get(key)
        if isinstance(value, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", value):
            return value
    return ""
