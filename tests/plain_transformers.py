"""A model in transformers' own classes, looked into with PyTorch's own hooks: what the library is compared with.

Shares nothing with `analysis` but the folder of weights. Activations of attention heads are flat: [B, P, H * d_head].
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from analysis.components.sites import MLP, RESIDUAL, Site
from analysis.concepts import Concept
from analysis.saliency.moments import TokenSample

Hook = Callable[[Tensor], Tensor | None]


class Plain:
    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.is_gpt2 = hasattr(self.model, "transformer")
        self.blocks = self.model.transformer.h if self.is_gpt2 else self.model.model.layers
        self.n_heads = self.model.config.num_attention_heads

    def module(self, layer: int, site: Site) -> torch.nn.Module:
        """Its input is the activation; for the residual stream, its output."""
        block = self.blocks[layer]
        if site == RESIDUAL:
            return block
        if site == MLP:
            return block.mlp.c_proj if self.is_gpt2 else block.mlp.down_proj
        return block.attn.c_proj if self.is_gpt2 else block.self_attn.o_proj

    @contextmanager
    def hook(self, layer: int, site: Site, function: Hook) -> Iterator[None]:
        """Shows `function` the activation of every pass inside; what it returns replaces it."""

        def before(module: object, arguments: tuple) -> tuple | None:
            changed = function(arguments[0])
            return None if changed is None else (changed, *arguments[1:])

        module = self.module(layer, site)
        if site == RESIDUAL:
            handle = module.register_forward_hook(lambda module, arguments, output: function(output))
        else:
            handle = module.register_forward_pre_hook(before)
        try:
            yield
        finally:
            handle.remove()

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings [1, P, D] (without positions)."""
        return self.model.get_input_embeddings()(torch.tensor([list(ids)])).detach()

    def run(self, ids: Sequence[int] | Tensor, sites: Sequence[Site] = ()) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Logits [P, V] of one text, given as ids or as embeddings [1, P, D]; and the activations of every layer."""
        kept: dict[str, list[Tensor]] = {site.name: [] for site in sites}
        given = {"inputs_embeds": ids} if isinstance(ids, Tensor) else {"input_ids": torch.tensor([list(ids)])}
        with ExitStack() as stack:
            for site in sites:
                for layer in range(len(self.blocks)):
                    stack.enter_context(self.hook(layer, site, kept[site.name].append))
            logits = self.model(**given, use_cache=False).logits[0]
        return logits, kept

    def per_unit(self, values_PU: Tensor, site: Site) -> Tensor:
        """Sum over positions, and over a head's dimensions: [N]."""
        total = values_PU.sum(0)
        return total.reshape(self.n_heads, -1).sum(1) if site.letter == "H" else total


def log_p(logits_PV: Tensor, ids: Sequence[int], answer: Sequence[int]) -> Tensor:
    """log P of the answer's tokens, one after the other."""
    return sum(torch.log_softmax(logits_PV[p - 1], dim=-1)[ids[p]] for p in answer)


@dataclass
class Cache:
    """Every counted token of a concept's sentences, one sentence at a time, unpadded."""

    values_LTU: np.ndarray
    labels_T: np.ndarray
    sentences_T: np.ndarray
    ids_T: np.ndarray


def cache(plain: Plain, concept: Concept, site: Site = MLP, *, skip_first: bool = True) -> Cache:
    """Activations in float64; labels and first words by a rule of their own, character by character."""
    values, labels, sentences, ids = [], [], [], []
    for s, sentence in enumerate(concept.labelled_sentences()):
        encoded = plain.tokenizer(sentence.text, return_offsets_mapping=True)
        with torch.no_grad():
            _, kept = plain.run(encoded["input_ids"], [site])
        layers = np.stack([one[0].double().numpy() for one in kept[site.name]])
        wanted = {i for start, end in sentence.spans for i in range(start, end)}
        first = set(range(sentence.text.index(" ")))
        for p, (start, end) in enumerate(encoded["offset_mapping"]):
            characters = set(range(start, end))
            if not characters or (skip_first and characters <= first):
                continue
            values.append(layers[:, p])
            labels.append(bool(characters & wanted))
            sentences.append(s)
            ids.append(encoded["input_ids"][p])
    return Cache(np.stack(values, axis=1), np.array(labels), np.array(sentences), np.array(ids))


def variant(folder: Path, target: Path, **changes: object) -> Path:
    """A new random model with a changed config, saved with the tokenizer of `folder`."""
    config = AutoConfig.from_pretrained(folder)
    for name, value in changes.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


def places(direct: Cache, sample: TokenSample, name: str, *, first_sentence: int = 0) -> np.ndarray:
    """Where in the cache the sampled tokens of a concept are: the same sentence, token and label, closest activations.

    `first_sentence` is the sample's number of the concept's first sentence.
    """
    chosen = sample.concepts[name]
    found = []
    for row, label, s, token in zip(chosen.rows, chosen.labels, chosen.sentences - first_sentence, chosen.tokens):
        values_LU = sample.values_SLN[row].numpy()
        same = np.flatnonzero((direct.sentences_T == s) & (direct.labels_T == label) & (direct.ids_T == token))
        apart = [np.abs(direct.values_LTU[:, t] - values_LU).max() for t in same]
        assert min(apart) < 1e-4
        found.append(same[np.argmin(apart)])
    return np.array(found)
