"""Tiny random models of families that differ from Llama and GPT-2 where the library looks: norms, heads, projections."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from analysis import models
from analysis.models import LanguageModel

FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cohere": ("CohereForCausalLM", "CohereConfig", {"logit_scale": 0.25}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {"head_dim": 8, "final_logit_softcapping": 1.5}),
    "granite": ("GraniteForCausalLM", "GraniteConfig", {"logits_scaling": 3.0}),
    "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {"num_key_value_heads": None}),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", {}),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", {}),
}
"""Class, configuration, and the settings that make each special; None takes a setting away.

Cohere: one norm for attention and MLP, logits times a factor. Gemma 2: embeddings times a factor, gains stored as
gain - 1, norms after attention and MLP, a soft cap. Granite: embeddings, residual and logits times factors. GPT-NeoX:
fused projections. OLMo 2: norms after attention and MLP only. Phi-3: fused projections in attention and MLP.
"""


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
