"""Measures forgetting: P(answer), memorization, paraphrases, the reverse direction, and other languages.

Axes: `F` fact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.concepts import Concept, Fact
from analysis.errors import ConceptError
from analysis.evaluation import intervals
from analysis.evaluation.result import Measure
from analysis.evaluation.scoring import per_fact, score_answers
from analysis.models import LanguageModel
from analysis.scoring.factual_recall import KNOWN_THRESHOLD, prepare_facts, score_facts

__all__ = ["Recall", "in_languages", "known_in_languages", "paraphrases", "recall", "reverse"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Recall:
    """How well each fact's answer is still predicted, averaged over its prompts; all float64, [F], in [0, 1]."""

    p_F: np.ndarray
    """Probability of the whole answer."""
    exact_F: np.ndarray
    """Share of answer tokens that the greedy prediction gets right, given the true tokens before them."""
    extraction_F: np.ndarray
    """1 - k / length, where k is the length of the shortest prefix of the answer after which all predictions are right."""

    def measures(self) -> tuple[Measure, ...]:
        """Return the measures forget, exact_memorization and extraction_strength."""
        return (
            intervals.mean("forget", self.p_F, counts="facts", unit="P(answer)"),
            intervals.mean("exact_memorization", self.exact_F, counts="facts", unit="share of answer tokens"),
            intervals.mean("extraction_strength", self.extraction_F, counts="facts", unit="share of the answer"),
        )


def recall(model: LanguageModel, concept: Concept, facts: Sequence[Fact]) -> Recall:
    """Score the answers of `facts` after the concept's templates, in one pass.

    Exact memorization (Tirumala et al. 2022) and extraction strength (Carlini et al. 2021) are defined as in
    OpenUnlearning (Dorna et al. 2025), except that an answer whose last token is not predicted has strength 0: the
    released code stops one token early and gives it 1 / length. For answers of one token both are greedy accuracy.

    Raises:
        ConceptError: there are no facts.
        ModelFileError: logits are not finite.
    """
    probe = prepare_facts(model, concept, facts)
    scored = score_answers(model, probe)
    return Recall(
        p_F=per_fact(probe, [answer.p for answer in scored]),
        exact_F=per_fact(probe, [float(answer.greedy_A.mean()) for answer in scored]),
        extraction_F=per_fact(probe, [extraction_strength(answer.greedy_A) for answer in scored]),
    )


def extraction_strength(greedy_A: np.ndarray) -> float:
    """Return 1 - k / length of one answer, given whether the greedy prediction of each token is right."""
    wrong = np.flatnonzero(~greedy_A)
    prefix = int(wrong[-1]) + 1 if wrong.size else 0
    return 1 - prefix / len(greedy_A)


def paraphrases(model: LanguageModel, concept: Concept, facts: Sequence[Fact]) -> Measure:
    """P(answer) after the concept's paraphrases, which no edit uses.

    Raises:
        ConceptError: no fact has a paraphrase.
        ModelFileError: logits are not finite.
    """
    asked = [fact for fact in facts if concept.paraphrases_of(fact)]
    if not asked:
        raise ConceptError(f"“{concept.name}” has no paraphrases. Add “paraphrases” to its file.")
    probe = prepare_facts(model, concept, asked, paraphrased=True)
    p_F = per_fact(probe, [answer.p for answer in score_answers(model, probe)])
    left = len(facts) - len(asked)
    note = f"{left} facts without a paraphrase left out" if left else ""
    return intervals.mean("paraphrase", p_F, counts="facts", unit="P(answer)", note=note)


def reverse(model: LanguageModel, concept: Concept, facts: Sequence[Fact]) -> Measure:
    """P(subject) after prompts that name the answer, for every different answer of `facts`.

    If several subjects of the concept have the same answer, any of them counts: their probabilities are added. If one
    subject begins with another, only the shorter is scored, because its probability includes that of the longer.

    Raises:
        ConceptError: the concept has no reverse prompts.
        ModelFileError: logits are not finite.
    """
    if not concept.reverse:
        raise ConceptError(
            f"“{concept.name}” has no reverse prompts. Add “reverse” templates with {{answer}} to its file."
        )
    templates = tuple(template.replace("{answer}", "{subject}") for template in concept.reverse)
    answers = list(dict.fromkeys(fact.answer for fact in facts))
    turned: list[Fact] = []
    owners: list[int] = []
    for i, answer in enumerate(answers):
        subjects = {fact.subject for fact in (*concept.facts, *facts) if fact.answer == answer}
        for subject in sorted(subjects):
            if not any(subject.startswith(f"{other} ") for other in subjects):
                turned.append(Fact(answer, subject, templates=templates))
                owners.append(i)
    probe = prepare_facts(model, concept, turned)
    p_F = per_fact(probe, [answer.p for answer in score_answers(model, probe)])
    totals = np.bincount(owners, weights=p_F, minlength=len(answers))
    return intervals.mean("reverse", totals, counts="answers", unit="P(any right subject)")


def known_in_languages(
    model: LanguageModel, concept: Concept, facts: Sequence[Fact], *, threshold: float = KNOWN_THRESHOLD
) -> dict[str, tuple[Fact, ...]]:
    """Return, for each language of the concept's translations, the translated facts that the (unedited) model knows."""
    known: dict[str, tuple[Fact, ...]] = {}
    for translation in concept.translations:
        translated = [found for fact in facts if (found := translation.fact(fact)) is not None]
        p_F = score_facts(model, prepare_facts(model, concept, translated)) if translated else np.zeros(0)
        known[translation.language] = tuple(fact for fact, p in zip(translated, p_F) if p >= threshold)
    return known


def in_languages(
    model: LanguageModel, concept: Concept, known: Mapping[str, Sequence[Fact]]
) -> tuple[tuple[Measure, ...], dict[str, str]]:
    """P(answer) in each language, on the facts known in it; and the reason for each language that is absent.

    Args:
        model: The model.
        concept: The concept of the facts.
        known: From `known_in_languages` on the unedited model.
    """
    measures, skipped = [], {}
    for language, facts in known.items():
        name = f"language: {language}"
        if not facts:
            skipped[name] = f"The unedited model knows none of the facts in {language}."
            continue
        probe = prepare_facts(model, concept, facts)
        p_F = per_fact(probe, [answer.p for answer in score_answers(model, probe)])
        measures.append(intervals.mean(name, p_F, counts="facts known in it", unit="P(answer)"))
    return tuple(measures), skipped
