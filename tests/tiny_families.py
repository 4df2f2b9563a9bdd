"""Tiny random models of families that differ from Llama and GPT-2 where the library looks: norms, heads, projections."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from analysis import models
from analysis.models import LanguageModel

_GPT = {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_inner": 48, "n_positions": 128}

FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bigcode": ("GPTBigCodeForCausalLM", "GPTBigCodeConfig", _GPT | {"num_key_value_heads": None}),
    "bitnet": ("BitNetForCausalLM", "BitNetConfig", {"hidden_act": "relu2"}),
    "bloom": ("BloomForCausalLM", "BloomConfig", {"n_layer": 3, "n_head": 4}),
    "codegen": ("CodeGenForCausalLM", "CodeGenConfig", _GPT | {"rotary_dim": 4}),
    "cohere": ("CohereForCausalLM", "CohereConfig", {"logit_scale": 0.25}),
    "falcon": ("FalconForCausalLM", "FalconConfig", {"ffn_hidden_size": 48}),
    "falcon_rw": (
        "FalconForCausalLM",
        "FalconConfig",
        {
            "multi_query": False,
            "alibi": True,
            "parallel_attn": False,
            "bias": True,
            "ffn_hidden_size": 48,
            "num_key_value_heads": None,
        },
    ),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {"head_dim": 8, "final_logit_softcapping": 1.5}),
    "glm": ("GlmForCausalLM", "GlmConfig", {"head_dim": 8}),
    "glm4": ("Glm4ForCausalLM", "Glm4Config", {"head_dim": 8}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", _GPT | {"num_key_value_heads": None}),
    "granite": ("GraniteForCausalLM", "GraniteConfig", {"logits_scaling": 3.0, "embedding_multiplier": 12.0}),
    "mpt": ("MptForCausalLM", "MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 128}),
    "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {"num_key_value_heads": None}),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", {}),
    "olmo3": ("Olmo3ForCausalLM", "Olmo3Config", {}),
    "opt350m": (
        "OPTForCausalLM",
        "OPTConfig",
        {"word_embed_proj_dim": 16, "ffn_dim": 48, "do_layer_norm_before": False},
    ),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", {}),
}
"""Class, configuration, and the settings that make each special; None takes a setting away.

BitNet: a norm over all heads' outputs and one over all neurons. Cohere: one norm for attention and MLP, logits times a factor. Gemma 2: embeddings times a factor, gains stored as
gain - 1, norms after attention and MLP, a soft cap. Granite: embeddings, residual and logits times factors. GPT-NeoX,
BLOOM, Falcon, MPT, CodeGen: query, key and value in one weight, of which the bridge runs copies; interleaved by head in
GPT-NeoX, BLOOM and Falcon RW, by partition in CodeGen. GPT-2, GPT-BigCode: the same, of which it runs views. OLMo 2 and
3: norms after attention and MLP only, and one over all heads' queries. Phi-3: fused projections in attention and MLP;
GLM: in the MLP. OPT-350M: embeddings half as wide as the residual stream.
"""

FUSED = ("bigcode", "bloom", "codegen", "falcon", "glm", "glm4", "gpt2", "mpt", "neox", "phi3")
"""The families with a fused projection that can be loaded."""

LOADABLE = tuple(sorted(FAMILIES.keys() - {"falcon_rw"}))
"""All but Falcon RW, which TransformerLens computes with another ALiBi than transformers, so it is refused."""


def tiny_family(name: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> LanguageModel:
    """Save a random model of 3 layers, 4 heads and 48 neurons in `folder`, and load it."""
    kind, config, special = FAMILIES[name]
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    settings = {key: value for key, value in (shape | special).items() if value is not None or key == "bos_token_id"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        inner = getattr(transformers, kind)(getattr(transformers, config)(**settings))
        with torch.no_grad():
            for parameter in inner.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
    inner.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    return models.load(str(folder / name), device="cpu")
