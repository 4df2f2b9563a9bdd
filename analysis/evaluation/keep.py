"""Measures what an edit should keep: neighbouring facts, other concepts, and perplexity on ordinary text.

Axes: `S` sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from analysis import concepts as concept_library
from analysis.concepts import Concept, Fact, Sentence
from analysis.errors import ConceptError
from analysis.evaluation import intervals
from analysis.evaluation.result import Measure
from analysis.evaluation.scoring import per_fact, score_answers
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.scoring.factual_recall import KNOWN_THRESHOLD, prepare_facts, prepare_neutral, score_facts, token_losses

__all__ = ["MAX_PER_CONCEPT", "Groups", "choose_others", "facts_kept", "neighbours_within", "perplexity"]

Groups = Mapping[str, tuple[Fact, ...]]
"""Concept or language -> facts."""

MAX_PER_CONCEPT = 16
"""Most facts of one other concept that are scored: enough for an interval, few enough to score after every edit."""
MAX_NEIGHBOURS = 32
_LARGEST_LOSS = 700.0
"""Nats: beyond it exp overflows, and the perplexity is given as exp(700)."""


def neighbours_within(
    concept: Concept, forgotten: Sequence[Fact], known: Sequence[Fact], *, seed: int = 0
) -> tuple[Fact, ...]:
    """Known facts of the concept outside the forget set, at most `MAX_NEIGHBOURS`, each with its templates.

    Facts about a forgotten subject are not neighbours, because an edit of the subject should affect them.
    """
    subjects = {fact.subject for fact in forgotten}
    return _drawn(concept, [fact for fact in known if fact.subject not in subjects], MAX_NEIGHBOURS, seed)


def choose_others(
    model: LanguageModel,
    concept: Concept,
    *,
    others: Sequence[Concept] | None = None,
    threshold: float = KNOWN_THRESHOLD,
    seed: int = 0,
) -> dict[str, tuple[Fact, ...]]:
    """Facts of other concepts that the (unedited) model knows, at most `MAX_PER_CONCEPT` each.

    Args:
        model: The unedited model.
        concept: The concept that is edited.
        others: Default: the other built-in concepts.
        threshold: Mean P(answer) from which a fact counts as known.
        seed: Draws the facts.
    """
    if others is None:
        others = [concept_library.load(name) for name in concept_library.BUILT_IN]
    chosen: dict[str, tuple[Fact, ...]] = {}
    for other in others:
        if other.name == concept.name or not other.facts:
            continue
        # a small model knows about half of a concept's facts, so twice as many are scored as are kept
        asked = _drawn(other, other.facts, 2 * MAX_PER_CONCEPT, seed)
        p = score_facts(model, prepare_facts(model, other, asked))
        known = [fact for fact, value in zip(asked, p) if value >= threshold]
        if known:
            chosen[other.name] = tuple(known[:MAX_PER_CONCEPT])
    return chosen


def facts_kept(
    model: LanguageModel, concept: Concept, groups: Mapping[str, Sequence[Fact]], *, name: str = "neighbours"
) -> tuple[Measure, ...]:
    """P(answer) of facts that should stay: over all groups, and for each group if there are several.

    Args:
        model: The model.
        concept: Only its name is used, since the facts hold their templates.
        groups: Concept -> its facts.
        name: Name of the measure over all groups; that of a single group is “name: concept”.

    Raises:
        ConceptError: no group has a fact.
        ModelFileError: logits are not finite.
    """
    flat = [(group, fact) for group, facts in groups.items() for fact in facts]
    if not flat:
        raise ConceptError("The unedited model knows no neighbouring fact, so none can be lost. Choose a larger model.")
    probe = prepare_facts(model, concept, [fact for _, fact in flat])
    p_F = per_fact(probe, [answer.p for answer in score_answers(model, probe)])
    note = "facts of " + ", ".join(group for group, facts in groups.items() if facts)
    measures = [intervals.mean(name, p_F, counts="facts", unit="P(answer)", note=note)]
    if len(groups) > 1:
        owners = np.array([group for group, _ in flat])
        measures += [
            intervals.mean(f"{name}: {group}", p_F[owners == group], counts="facts", unit="P(answer)")
            for group in dict.fromkeys(owners.tolist())
        ]
    return tuple(measures)


def perplexity(model: LanguageModel, sentences: Sequence[Sentence], *, name: str = "neutral_perplexity") -> Measure:
    """exp(mean cross-entropy per token); the interval resamples sentences.

    Raises:
        ConceptError: fewer than two sentences have two tokens.
        ModelFileError: logits are not finite.
    """
    probe = prepare_neutral(model, sentences)
    if probe.n_sentences < 2:
        raise ConceptError("Perplexity needs at least two sentences of two tokens: one has no interval. Add some.")
    totals, counts = [], []
    with torch.inference_mode(), model.lock:
        for tokens, lengths in probe.batches:
            losses = token_losses(model.logits(tokens), tokens, lengths).cpu().double()
            check_finite(model, losses)
            totals.append(losses.sum(1).numpy())
            counts.append((lengths - 1).cpu().numpy())
    total_S, count_S = np.concatenate(totals), np.concatenate(counts)

    def statistic(weights_S: np.ndarray) -> list[float]:
        return [float(np.exp(min(weights_S @ total_S / (weights_S @ count_S), _LARGEST_LOSS)))]

    low, high = intervals.blocks(statistic, probe.n_sentences)[:, 0]
    return Measure(
        name=name,
        value=statistic(np.ones(probe.n_sentences))[0],
        low=float(low),
        high=float(high),
        n=probe.n_sentences,
        counts="sentences",
        unit="exp(nats per token)",
        note=f"{int(count_S.sum())} tokens",
    )


def _drawn(concept: Concept, facts: Sequence[Fact], count: int, seed: int) -> tuple[Fact, ...]:
    order = np.random.default_rng(seed).permutation(len(facts))[:count]
    return tuple(replace(facts[i], templates=concept.templates_of(facts[i])) for i in sorted(order.tolist()))
