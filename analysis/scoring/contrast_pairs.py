"""Builds pairs of clean and corrupted prompts with known answers, and scores how strongly a model gives the answer.

Causal methods compare a clean run with one whose subject is corrupted. A clean prompt and its twin differ only at the
subject's positions and have equal length, so that an activation of one run can be patched into the other.

Axes: `B` batch, `P` position, `D` d_model, `V` vocabulary, `K` candidate answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.concepts import Concept, Fact
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.models.language_model import EMBEDDING_HOOK
from analysis.scoring.batches import MAX_LENGTH, bucket, pad, span_tokens

__all__ = [
    "CORRUPTIONS",
    "METRICS",
    "AnswerBatch",
    "PairBatch",
    "PromptPairs",
    "answer_batches",
    "answer_log_p",
    "pair_prompts",
    "score",
]

Corruption = Literal["swap", "noise", "random"]
Metric = Literal["log_p", "logit_difference"]

CORRUPTIONS: dict[str, str] = {
    "swap": "another fact's subject of as many tokens, with another answer (symmetric token replacement)",
    "noise": "Gaussian noise of three standard deviations on the subject's embeddings",
    "random": "as many random tokens of printable ASCII characters",
}
METRICS: dict[str, str] = {
    "log_p": "nats: log P(answer), summed over the answer's tokens",
    "logit_difference": "logits: the answer's first token minus the mean of the other answers' first tokens",
}
_TOKENS_PER_BATCH = 512


@dataclass(frozen=True)
class AnswerBatch:
    """Right-padded texts, with the answer tokens whose probability is scored."""

    tokens_BP: Int[Tensor, "B P"]
    answer_BP: Bool[Tensor, "B P"]
    facts: tuple[int, ...]
    """Index of each row's fact (or of its sentence)."""


@dataclass(frozen=True)
class PairBatch:
    """Clean prompts with their answers, and their corrupted twins, right-padded."""

    clean_BP: Int[Tensor, "B P"]
    corrupted_BP: Int[Tensor, "B P"]
    """Equal to the clean tokens where the corruption is noise."""
    noise_BPD: Float[Tensor, "B P D"] | None
    """Added to the embeddings in the corrupted run."""
    subject_BP: Bool[Tensor, "B P"]
    answer_BP: Bool[Tensor, "B P"]
    candidates_K: Int[Tensor, " K"]
    """First tokens of all answers."""
    contrast_BK: Float[Tensor, "B K"]
    """Weights of the logit difference: 1 at the row's answer, and together -1 over the answers compared with it."""
    facts: tuple[int, ...]
    """Index of each row's fact in `PromptPairs.facts`."""

    @property
    def last_B(self) -> Int[Tensor, " B"]:
        """Position of the prompt's last token, which predicts the answer's first token."""
        return self.answer_BP.int().argmax(1) - 1

    def corruption_hooks(self) -> list[tuple[str, Callable]]:
        """Hooks that add the noise to the embeddings; empty if the corruption replaces tokens."""
        noise = self.noise_BPD
        if noise is None:
            return []
        return [(EMBEDDING_HOOK, lambda embedded, hook: embedded + noise.to(embedded.dtype))]


@dataclass(frozen=True)
class PromptPairs:
    """All prompt pairs of one concept, and the number of prompts left out."""

    concept: str
    corruption: Corruption
    facts: tuple[Fact, ...]
    batches: tuple[PairBatch, ...]
    n_prompts: int
    n_refused: int
    """Prompts without a twin of the same length."""
    provenance: dict[str, Any]


def pair_prompts(
    model: LanguageModel,
    concept: Concept,
    facts: Sequence[Fact] | None = None,
    *,
    corruption: Corruption = "swap",
    max_prompts: int = 48,
    noise_scale: float = 3.0,
    seed: int = 0,
) -> PromptPairs:
    """Pair the prompts of `facts` (default: all of the concept's) with corrupted twins.

    If there are more than `max_prompts`, that many are drawn with `seed`, spread evenly over facts.

    Args:
        model: Its tokenizer is used, and the standard deviation of its embeddings for the noise.
        concept: Its templates and name are used.
        facts: Usually those the model knows (`factual_recall.known_facts`).
        corruption: One of `CORRUPTIONS`.
        max_prompts: Most prompts to use.
        noise_scale: Standard deviations of the noise, in those of the subjects' embeddings (Meng et al. 2022: 3).
        seed: Draws prompts, twins, noise and random tokens.

    Raises:
        ConfigError: the corruption is unknown, or `max_prompts` is below 1.
        ConceptError: there are no facts, a subject has no token of its own, or no prompt has a twin.
    """
    if corruption not in CORRUPTIONS:
        raise ConfigError(f"“{corruption}” is not a corruption. Use {', '.join(CORRUPTIONS)}.")
    if max_prompts < 1:
        raise ConfigError(f"The number of prompts is {max_prompts}; it must be at least 1.")
    facts = tuple(concept.facts if facts is None else facts)
    if not facts:
        raise ConceptError(
            f"“{concept.name}” has no facts that can be asked for, and causal methods need prompts with answers. "
            "Choose a concept with facts that the model knows."
        )
    rows = [row for f, fact in enumerate(facts) for row in _rows(model, concept, f, fact)]
    random = np.random.default_rng(seed)
    twins = {"swap": _swapped, "noise": _unchanged, "random": _randomised}[corruption](model, facts, rows, random)
    paired = [(row, twin) for row, twin in zip(rows, twins) if twin is not None]
    if not paired:
        raise ConceptError(
            f"No two subjects of “{concept.name}” have equally many tokens and different answers, so none can replace "
            "another. Use the corruption “noise” or “random”."
        )
    chosen = _spread(paired, max_prompts, random)
    candidates, contrast = _contrast(model, concept, facts)
    noise_std = _subject_std(model, rows) * noise_scale if corruption == "noise" else None
    batches = tuple(
        _batch(model, [chosen[i] for i in indices], candidates, contrast, noise_std, seed + n)
        for n, indices in enumerate(bucket([len(row.ids) for row, _ in chosen], _TOKENS_PER_BATCH))
    )
    provenance = {
        "model": model.name,
        "dtype": model.dtype,
        "corruption": corruption,
        "n_prompts": len(chosen),
        "n_refused": len(rows) - len(paired),
        "n_facts": len({row.fact for row, _ in chosen}),
        "noise_scale": noise_scale if corruption == "noise" else None,
        "seed": seed,
    }
    return PromptPairs(concept.name, corruption, facts, batches, len(chosen), len(rows) - len(paired), provenance)


def answer_batches(
    model: LanguageModel,
    concept: Concept,
    facts: Sequence[Fact] | None = None,
    *,
    max_examples: int = 48,
    seed: int = 0,
) -> tuple[AnswerBatch, ...]:
    """Batches of texts whose answer tokens belong to the concept: its facts, or without facts its labelled sentences.

    At most `max_examples` are drawn with `seed`; each fact gets one before any gets a second.

    Raises:
        ConfigError: `max_examples` is below 1.
        ConceptError: no labelled token has a token before it.
    """
    if max_examples < 1:
        raise ConfigError(f"The number of examples is {max_examples}; it must be at least 1.")
    facts = concept.facts if facts is None else facts
    random = np.random.default_rng(seed)
    if facts:
        rows = [row for f, fact in enumerate(facts) for row in _rows(model, concept, f, fact)]
        chosen = [row for row, _ in _spread([(row, row.ids) for row in rows], max_examples, random)]
        texts = [(row.ids, row.answer, row.fact) for row in chosen]
    else:
        texts = []
        for n, sentence in enumerate(concept.labelled_sentences()):
            encoded = model.encode(sentence.text)
            ids = encoded.ids[: min(MAX_LENGTH, model.context_length)]
            found = {p for start, end in sentence.spans for p in span_tokens(encoded, start, end) if 0 < p < len(ids)}
            if found:
                texts.append((ids, tuple(sorted(found)), n))
        texts = [texts[i] for i in random.permutation(len(texts))[:max_examples]]
    if not texts:
        raise ConceptError(
            f"No labelled word of “{concept.name}” has a word before it, so the model cannot be asked to predict it. Add "
            "sentences in which the word does not come first."
        )
    batches = []
    for indices in bucket([len(ids) for ids, _, _ in texts], _TOKENS_PER_BATCH):
        tokens = pad([texts[i][0] for i in indices], model)
        answer = torch.zeros(tokens.shape, dtype=torch.bool)
        for b, i in enumerate(indices):
            answer[b, list(texts[i][1])] = True
        batches.append(AnswerBatch(tokens, answer.to(model.device), tuple(texts[i][2] for i in indices)))
    return tuple(batches)


def answer_log_p(
    logits_BPV: Float[Tensor, "B P V"], tokens_BP: Int[Tensor, "B P"], answer_BP: Bool[Tensor, "B P"]
) -> Float[Tensor, " B"]:
    """Log-probability of each row's answer tokens, summed, in nats; differentiable."""
    log_p = torch.log_softmax(logits_BPV[:, :-1].float(), dim=-1)
    own = log_p.gather(2, tokens_BP[:, 1:, None]).squeeze(2)
    return (own * answer_BP[:, 1:]).sum(1)


def score(logits_BPV: Float[Tensor, "B P V"], batch: PairBatch, metric: Metric = "log_p") -> Float[Tensor, " B"]:
    """Score of each row's answer by `metric`, in the unit that `METRICS` names; differentiable."""
    rows = torch.arange(logits_BPV.shape[0], device=logits_BPV.device)
    if metric == "logit_difference":
        last_BK = logits_BPV[rows, batch.last_B].float()[:, batch.candidates_K]
        if not bool((batch.contrast_BK < 0).any(1).all()):
            raise ConceptError(
                "All answers begin alike, so there is no other answer for a logit difference. Use log_p, or give the facts "
                "a counter answer."
            )
        return (last_BK * batch.contrast_BK).sum(1)
    if metric != "log_p":
        raise ConfigError(f"“{metric}” is not a metric. Use {', '.join(METRICS)}.")
    return answer_log_p(logits_BPV, batch.clean_BP, batch.answer_BP)


@dataclass(frozen=True)
class _Row:
    """One prompt with its answer."""

    fact: int
    template: str
    ids: tuple[int, ...]
    subject: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def frame(self) -> tuple:
        """What a twin must share: template, positions of the subject, and every other token of the prompt."""
        prompt = self.ids[: self.answer[0]]
        return self.template, self.subject, tuple(t for p, t in enumerate(prompt) if p not in self.subject)


def _rows(model: LanguageModel, concept: Concept, f: int, fact: Fact) -> list[_Row]:
    rows = []
    for template, (text, start) in zip(concept.templates_of(fact), concept.statements(fact)):
        encoded = model.encode(text)
        begin = template.index("{subject}")
        subject = span_tokens(encoded, begin, begin + len(fact.subject))
        answer = [p for p in span_tokens(encoded, start, len(text)) if p > 0]
        if not subject or not answer:
            raise ConceptError(f"“{text}” has no token of its own for its subject or its answer.")
        if len(encoded) > model.context_length:
            raise ConceptError(f"“{text[:60]}…” is longer than the model's {model.context_length} tokens.")
        rows.append(_Row(f, template, encoded.ids, tuple(subject), tuple(answer)))
    return rows


def _swapped(
    model: LanguageModel, facts: Sequence[Fact], rows: list[_Row], random: np.random.Generator
) -> list[tuple[int, ...] | None]:
    """The prompt of another fact with the same frame, followed by this row's answer; None if there is no such fact."""
    frames: dict[tuple, list[_Row]] = {}
    for row in rows:
        frames.setdefault(row.frame, []).append(row)
    twins: list[tuple[int, ...] | None] = []
    for row in rows:
        others = [other for other in frames[row.frame] if facts[other.fact].answer != facts[row.fact].answer]
        if not others:
            twins.append(None)
            continue
        other = others[random.integers(len(others))]
        twins.append(other.ids[: other.answer[0]] + row.ids[row.answer[0] :])
    return twins


def _unchanged(
    model: LanguageModel, facts: Sequence[Fact], rows: list[_Row], random: np.random.Generator
) -> list[tuple[int, ...] | None]:
    return [row.ids for row in rows]


def _randomised(
    model: LanguageModel, facts: Sequence[Fact], rows: list[_Row], random: np.random.Generator
) -> list[tuple[int, ...] | None]:
    """Random tokens of printable ASCII in place of the subject's."""
    special = set(model.tokenizer.all_special_ids)
    texts = model.tokenizer.batch_decode([[i] for i in range(min(model.vocabulary_size, len(model.tokenizer)))])
    pool = [i for i, t in enumerate(texts) if i not in special and t.isascii() and t.isprintable() and t.strip()]
    twins: list[tuple[int, ...] | None] = []
    for row in rows:
        ids = list(row.ids)
        for position in row.subject:
            ids[position] = int(pool[random.integers(len(pool))])
        twins.append(tuple(ids))
    return twins


def _spread(
    paired: list[tuple[_Row, tuple[int, ...]]], count: int, random: np.random.Generator
) -> list[tuple[_Row, tuple[int, ...]]]:
    """Draw at most `count` pairs; each fact gets one before any gets a second."""
    shuffled = [paired[i] for i in random.permutation(len(paired))]
    seen: dict[int, int] = {}
    rounds = []
    for pair in shuffled:
        rounds.append(seen.get(pair[0].fact, 0))
        seen[pair[0].fact] = rounds[-1] + 1
    order = sorted(range(len(shuffled)), key=rounds.__getitem__)[:count]
    return [shuffled[i] for i in order]


def _contrast(
    model: LanguageModel, concept: Concept, facts: Sequence[Fact]
) -> tuple[list[int], list[dict[int, float]]]:
    """Returns the first tokens of all answers, and each fact's weights over them for its logit difference.

    A fact with a counter answer is compared with that answer; any other fact with all other answers.
    """
    first: list[int] = []
    counter: list[int | None] = []
    for fact in facts:
        text, start = next(iter(concept.statements(fact)))
        first.append(_first_token(model, text, start))
        counter.append(
            None if fact.counter_answer is None else _first_token(model, text[:start] + fact.counter_answer, start)
        )
    candidates = sorted({*first, *(token for token in counter if token is not None)})
    answers = sorted(set(first))
    weights = []
    for own, against in zip(first, counter):
        others = [against] if against is not None and against != own else [token for token in answers if token != own]
        weights.append({own: 1.0} | {token: -1.0 / len(others) for token in others})
    return candidates, weights


def _first_token(model: LanguageModel, text: str, start: int) -> int:
    encoded = model.encode(text)
    positions = span_tokens(encoded, start, len(text))
    if not positions:
        raise ConceptError(f"The answer of “{text}” has no token of its own.")
    return encoded.ids[positions[0]]


def _subject_std(model: LanguageModel, rows: list[_Row]) -> float:
    """Standard deviation of the embeddings of all subject tokens, as the model computes with them."""
    ids = sorted({row.ids[p] for row in rows for p in row.subject})
    return float(model.embed_at_hook(torch.tensor([ids], device=model.device)).float().std())


def _batch(
    model: LanguageModel,
    pairs: list[tuple[_Row, tuple[int, ...]]],
    candidates: list[int],
    contrast: list[dict[int, float]],
    noise_std: float | None,
    seed: int,
) -> PairBatch:
    clean = pad([row.ids for row, _ in pairs], model)
    subject = torch.zeros(clean.shape, dtype=torch.bool)
    answer = torch.zeros(clean.shape, dtype=torch.bool)
    for b, (row, _) in enumerate(pairs):
        subject[b, list(row.subject)] = True
        answer[b, list(row.answer)] = True
    noise = None
    if noise_std is not None:
        # drawn on the CPU, so that a seed gives the same noise on every device
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(*clean.shape, model.input_embeddings_VD.shape[1], generator=generator) * noise_std
        noise = (noise * subject[..., None]).to(model.device)
    weights = [[contrast[row.fact].get(token, 0.0) for token in candidates] for row, _ in pairs]
    return PairBatch(
        clean,
        pad([twin for _, twin in pairs], model),
        noise,
        subject.to(model.device),
        answer.to(model.device),
        torch.tensor(candidates, device=model.device),
        torch.tensor(weights, device=model.device),
        tuple(row.fact for row, _ in pairs),
    )
