"""A tiny random model and a concept for benchmarks of everything but the mathematics: queues, kills, sessions."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from analysis.concepts import Concept, Fact, Sentence

__all__ = ["concept", "save_model", "tokenizer"]

_CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Japan": "Tokyo",
    "Norway": "Oslo",
    "Spain": "Madrid",
    "Greece": "Athens",
}
_HELD_OUT = ("Spain", "Greece")


def tokenizer() -> PreTrainedTokenizerFast:
    """Its tokens are single bytes."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(["<|end|>", *sorted(alphabet)])}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>")


def save_model(folder: Path, *, layers: int = 3, neurons: int = 48) -> Path:
    """Save a seeded random Llama whose tokens are single bytes; it knows nothing."""
    bytewise = tokenizer()
    config = LlamaConfig(
        vocab_size=len(bytewise),
        hidden_size=32,
        intermediate_size=neurons,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder, safe_serialization=True)
    bytewise.save_pretrained(folder)
    return folder


def concept() -> Concept:
    """Six capitals, two of them held out; the tiny model knows none, so runs take a threshold of 0."""
    facts = tuple(
        Fact(country, city, fixed_split="held_out" if country in _HELD_OUT else "retrained")
        for country, city in _CAPITALS.items()
    )
    texts = [f"Last year the train to {city} was late again." for city in _CAPITALS.values()]
    spans = [(text.index(city), text.index(city) + len(city)) for text, city in zip(texts, _CAPITALS.values())]
    return Concept(
        name="tiny-capitals",
        title="Capitals",
        templates=("The capital of {subject} is",),
        facts=facts,
        sentences=tuple(Sentence(text, (span,)) for text, span in zip(texts, spans)),
    )
