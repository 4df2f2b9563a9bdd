"""A small language model whose concept neurons are known, because they were put there.

A Llama with random weights, in which four families of MLP neurons are planted at random places of every layer:

- *causal*: read a direction that only the words of one class of the concept carry, and write that class's answer;
- *reader*: read a direction that all words of the concept carry, and write nothing that bears on an answer;
- *booster*: read what all tokens share, and write all answers alike;
- *loud*: read no planted direction, with activations ten to forty times as large as other neurons'.

What a reader, a loud or an ordinary neuron adds to the residual stream is of one size. The truth is twofold: causal and
reader neurons *read* the concept; causal and booster neurons *cause* its answers. Needs no pytest:
`benchmarks/planted_concept.py` uses it too.

Axes: `L` layer, `N` neuron, `D` d_model, `W` word.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from analysis import saliency
from analysis.concepts import Concept, Fact, Sentence
from analysis.models import LanguageModel, from_parts
from analysis.models.catalog import ModelSource
from analysis.saliency import CAUSAL_METHODS, METHODS, Saliency, causal
from analysis.scoring.factual_recall import prepare_facts, score_facts

LAYERS, WIDTH, NEURONS, HEADS = 4, 64, 128, 4
CLASSES, WORDS_IN_CLASS, FILLERS = 3, 4, 80
PER_LAYER = {"causal": CLASSES, "reader": 3, "booster": 2, "loud": 6}
"""Neurons of each family in every layer; the causal ones are one for each class."""
P_ANSWER = 0.6
"""Mean P(answer): the one number that the strength of the writing neurons is set by."""
CORRUPTIONS = ("swap", "noise")


@dataclass(frozen=True)
class Planted:
    """The model, its concept and where the neurons are."""

    model: LanguageModel
    concept: Concept
    families: dict[str, np.ndarray]
    """Name -> mask, [L, N]."""

    @property
    def truths(self) -> dict[str, np.ndarray]:
        """The sets a method may be after, [L, N] each."""
        causal, reader, booster = (self.families[name] for name in ("causal", "reader", "booster"))
        return {"reads": causal | reader, "causes": causal | booster, "both": causal}


def plant(seed: int, *, reading: float = 1.0) -> Planted:
    """A new model; the same seed gives the same one. `reading` scales how strongly planted neurons read."""
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    concept = _concept(random)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inner = LlamaForCausalLM(_config()).eval()
    families, writers = _plant(inner, random, generator, reading)
    tokenizer = _tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        inner.config.save_pretrained(folder)
        source = ModelSource(name=f"planted-{seed}", kind="folder", location=folder)
        model = from_parts(inner, tokenizer, source, folder=Path(folder), dtype="float32")
    _set_strength(model, concept, writers)
    return Planted(model, concept, families)


def score(planted: Planted, method: str, **options: Any) -> Saliency:
    """The neurons' scores by one method, with its default settings unless told; ablation of every single neuron."""
    model, concept = planted.model, planted.concept
    if method not in CAUSAL_METHODS:
        return saliency.measure(model, [concept], methods=[method])[0]
    if method == "ablation":
        return causal.ablation(model, concept, [(l, n) for l in range(LAYERS) for n in range(NEURONS)])
    return causal.measure(model, concept, method, **options)


def variants() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> (method, its options); attribution patching once for each corruption."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for method in METHODS:
        if method == "attribution_patching":
            found |= {f"{method}, {corruption}": (method, {"corruption": corruption}) for corruption in CORRUPTIONS}
        else:
            found[method] = (method, {})
    return found


def precision(found: Saliency, truth_LN: np.ndarray) -> float:
    """Share of the k highest scores that belong to the truth, with k the number that do."""
    return float(truth_LN.ravel()[found.order[: truth_LN.sum()]].mean())


def _words() -> tuple[list[str], list[list[str]], list[str]]:
    """Fillers, the concept's words by class, and answers."""
    classes = [[f"c{k}x{i}" for i in range(WORDS_IN_CLASS)] for k in range(CLASSES)]
    return [f"w{i}" for i in range(FILLERS)], classes, [f"a{k}" for k in range(CLASSES)]


def _tokenizer() -> PreTrainedTokenizerFast:
    fillers, classes, answers = _words()
    words = ["<|end|>", *fillers, *(word for words in classes for word in words), *answers]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<|end|>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>")


def _config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=1 + FILLERS + CLASSES * WORDS_IN_CLASS + CLASSES,
        hidden_size=WIDTH,
        intermediate_size=NEURONS,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )


def _concept(random: np.random.Generator) -> Concept:
    """Sentences of random words with the concept's among them, and a fact for every word: its class's answer."""
    fillers, classes, answers = _words()
    own = [word for words in classes for word in words]
    sentences = []
    for _ in range(80):
        words = [str(word) for word in random.choice([*fillers, *answers], random.integers(8, 15))]
        for place in random.choice(np.arange(1, len(words)), random.integers(1, 3), replace=False):
            words[place] = str(random.choice(own))
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        spans = [(int(starts[i]), int(starts[i]) + len(word)) for i, word in enumerate(words) if word in own]
        sentences.append(Sentence(" ".join(words), tuple(spans)))
    templates = [" ".join(random.choice(fillers, size)) + " {subject}" for size in (2, 4, 6)]
    facts = [Fact(word, answers[k]) for k, words in enumerate(classes) for word in words]
    return Concept(
        name="planted", title="Planted", templates=tuple(templates), facts=tuple(facts), sentences=tuple(sentences)
    )


def _plant(
    inner: LlamaForCausalLM, random: np.random.Generator, generator: torch.Generator, reading: float
) -> tuple[dict[str, np.ndarray], list[tuple[Tensor, int]]]:
    """Set all weights but attention's; returns the families, and the output columns that write answers."""

    def directions(*shape: int, avoid: Tensor | None = None) -> Tensor:
        """Random unit vectors, orthogonal to the rows of `avoid`."""
        drawn = torch.randn(*shape, WIDTH, generator=generator)
        if avoid is not None:
            drawn = drawn - drawn @ avoid.T @ avoid
        return drawn / drawn.norm(dim=-1, keepdim=True)

    def uniform(low: float, high: float) -> float:
        return float(random.uniform(low, high))

    planted = torch.linalg.qr(torch.randn(WIDTH, 2 + 2 * CLASSES, generator=generator))[0].T.contiguous()
    common, shared, classes, answers = planted[0], planted[1], planted[2 : 2 + CLASSES], planted[2 + CLASSES :]
    families = {name: np.zeros((LAYERS, NEURONS), dtype=bool) for name in PER_LAYER}
    writers = []
    with torch.no_grad():
        own = directions(inner.config.vocab_size, avoid=planted)
        for i in range(CLASSES * WORDS_IN_CLASS):
            r0, rk = uniform(0.4, 0.6), uniform(0.4, 0.6)
            rest = (1 - r0**2 - rk**2) ** 0.5
            own[1 + FILLERS + i] = r0 * shared + rk * classes[i // WORDS_IN_CLASS] + rest * own[1 + FILLERS + i]
        # every word has the same norm and the same share of what all have in common
        inner.model.embed_tokens.weight.copy_(0.5 * common + 0.75**0.5 * own)
        inner.lm_head.weight.copy_(directions(inner.config.vocab_size))
        inner.lm_head.weight[-CLASSES:] = 1.5 * answers
        for layer, block in enumerate(inner.model.layers):
            gate, up = directions(NEURONS, avoid=planted), directions(NEURONS, avoid=planted)
            out = 0.045 * directions(NEURONS)
            places = iter(random.permutation(NEURONS).tolist())
            for family, count in PER_LAYER.items():
                for i in range(count):
                    n = next(places)
                    families[family][layer, n] = True
                    if family == "loud":
                        loudness = uniform(3, 6)
                        gate[n], up[n], out[n] = gate[n] * loudness, up[n] * loudness, out[n] / loudness**2
                        continue
                    read = {"causal": classes[i], "reader": shared, "booster": common}[family]
                    read = read * uniform(0.3, 0.9) * reading
                    gate[n], up[n] = 0.5 * gate[n] + read, 0.5 * up[n] + read
                    if family == "reader":
                        out[n] = 0.2 * 0.045 * directions(1, avoid=answers)[0]
                    else:
                        written = answers[i] if family == "causal" else answers.sum(0) / CLASSES
                        out[n] = written * uniform(0.5, 1.0)
                        writers.append((block.mlp.down_proj.weight, n))
            block.mlp.gate_proj.weight.copy_(gate)
            block.mlp.up_proj.weight.copy_(up)
            block.mlp.down_proj.weight.copy_(out.T)
    return families, writers


def _set_strength(model: LanguageModel, concept: Concept, writers: list[tuple[Tensor, int]]) -> None:
    """Scale what the answers' neurons write until the mean P(answer) is `P_ANSWER` (bisection)."""
    probe = prepare_facts(model, concept)
    columns = [(weight, n, weight[:, n].detach().clone()) for weight, n in writers]
    low, high = 0.0, 16.0
    for _ in range(17):
        middle = (low + high) / 2
        with torch.no_grad():
            for weight, n, column in columns:
                weight[:, n] = middle * column
        if score_facts(model, probe).mean() < P_ANSWER:
            low = middle
        else:
            high = middle
