"""Measures multiple choice accuracy by likelihood and by letter, and the truth ratio.

By likelihood, each option continues the fact's first template, and the option of the lowest perplexity is the choice
(LLM Surgery, Veldanda et al. 2024). By letter, the prompt lists the options as A to D, and the next token is the choice
(Mechanistic Unlearning, Guo et al. 2024). Both are measured because small models cannot answer with a letter: theirs stay
at chance before any edit, and so show nothing after it.

Axes: `F` fact, `O` option.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.concepts import Concept, Fact
from analysis.errors import ConceptError
from analysis.evaluation import intervals
from analysis.evaluation.result import Measure
from analysis.evaluation.scoring import score_answers, score_next
from analysis.models import LanguageModel
from analysis.scoring.factual_recall import prepare_facts

__all__ = [
    "LETTERS",
    "Question",
    "by_letter",
    "by_likelihood",
    "injected_questions",
    "option_scores",
    "questions",
    "truth_ratio",
]

LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A fact with the options to choose from."""

    fact: Fact
    options: tuple[str, ...]
    """Two to four different answers, in the order they are shown."""
    right: int
    """Index of the fact's answer among the options."""


def questions(concept: Concept, facts: Sequence[Fact], *, seed: int = 0) -> tuple[Question, ...]:
    """Make the options for every fact: its answer and up to three wrong ones, drawn with `seed`.

    Wrong options are the fact's own choices; without any, answers of the concept's facts with the same templates, or of all
    its facts if those are too few, but never another answer of the same subject or an alias of the right one. Right answers are spread evenly over the letters.

    Raises:
        ConceptError: the concept has only one answer.
    """
    random = np.random.default_rng(seed)
    everything = tuple(dict.fromkeys((*concept.facts, *facts)))
    letters = random.permutation(len(facts))
    asked = []
    for fact, letter in zip(facts, letters):
        right_too = {other.answer for other in everything if other.subject == fact.subject} | {
            fact.answer,
            *fact.aliases,
        }
        alike = [other for other in everything if concept.templates_of(other) == concept.templates_of(fact)]
        wrong = sorted(fact.choices) or sorted({other.answer for other in alike} - right_too)
        if not fact.choices and len(wrong) < len(LETTERS) - 1:
            wrong = sorted({other.answer for other in everything} - right_too)
        if not wrong:
            raise ConceptError(f"“{concept.name}” has no wrong answers to choose from. Add facts with other answers.")
        count = min(len(wrong), len(LETTERS) - 1)
        options = [wrong[i] for i in random.choice(len(wrong), count, replace=False)]
        right = int(letter) % (count + 1)
        options.insert(right, fact.answer)
        asked.append(Question(fact, tuple(options), right))
    return tuple(asked)


def injected_questions(concept: Concept, injected: Sequence[Fact], *, seed: int = 0) -> tuple[Question, ...]:
    """Make questions whose right option is a fact's new answer and whose wrong options include the old answer.

    Raises:
        ConceptError: there is no other answer to choose from.
    """
    old = {fact.subject: fact.answer for fact in concept.facts}
    asked = []
    for question in questions(concept, injected, seed=seed):
        options, answer = list(question.options), old.get(question.fact.subject)
        if answer is not None and answer not in options:
            place = 0 if question.right else len(options) - 1  # any place but the right one's
            options[place] = answer
        asked.append(Question(question.fact, tuple(options), question.right))
    return tuple(asked)


def option_scores(model: LanguageModel, concept: Concept, asked: Sequence[Question]) -> tuple[np.ndarray, ...]:
    """Return, for each question, each option's mean token log-probability after the fact's first template, float64 [O].

    Raises:
        ModelFileError: logits are not finite.
    """
    rows = [
        Fact(question.fact.subject, option, templates=concept.templates_of(question.fact)[:1])
        for question in asked
        for option in question.options
    ]
    scored = iter(score_answers(model, prepare_facts(model, concept, rows)))
    return tuple(np.array([float(next(scored).log_p_A.mean()) for _ in question.options]) for question in asked)


def by_likelihood(asked: Sequence[Question], scores: Sequence[np.ndarray]) -> Measure:
    """Accuracy of choosing the option of lowest perplexity, from `option_scores`: the measure `multiple_choice`."""
    right = [int(score_O.argmax()) == question.right for question, score_O in zip(asked, scores)]
    return intervals.share("multiple_choice", right, counts="facts", unit="accuracy by likelihood", note=_chance(asked))


def truth_ratio(asked: Sequence[Question], scores: Sequence[np.ndarray]) -> Measure:
    """Truth ratio, from `option_scores`: 1 if right and wrong answers are equally likely, the goal for forgotten facts.

    R = exp(mean over wrong options of their mean token log-probability) / exp(that of the right one). The measure is the
    mean over facts of min(R, 1 / R) (TOFU, Maini et al. 2024, in OpenUnlearning's form for forget sets). In TOFU the right
    answer is a paraphrase and the wrong ones are perturbations of it; here they are the fact's answer and other answers.
    """
    values = []
    for question, score_O in zip(asked, scores):
        # |log R|, so that no probability is divided by one that has underflown
        gap = float(np.delete(score_O, question.right).mean() - score_O[question.right])
        values.append(float(np.exp(-abs(gap))))
    return intervals.mean("truth_ratio", values, counts="facts", unit="min(R, 1/R)")


def by_letter(model: LanguageModel, concept: Concept, asked: Sequence[Question]) -> tuple[Measure, Measure]:
    """Accuracy by letter, and the mean probability of the right letter, renormalised over the letters shown.

    Raises:
        ConceptError: the tokenizer does not put a letter into one token after the prompt.
        ModelFileError: logits are not finite.
    """
    prompts, letter_ids = [], []
    for question in asked:
        prompt = letter_prompt(concept, question)
        texts = [model.encode(f"{prompt} {letter}").ids for letter in LETTERS[: len(question.options)]]
        stem = texts[0][:-1]
        if any(ids[:-1] != stem for ids in texts) or len({ids[-1] for ids in texts}) != len(texts):
            raise ConceptError(
                f"The tokenizer of “{model.name}” does not put a letter after the prompt into one token."
            )
        prompts.append(stem)
        letter_ids.append([ids[-1] for ids in texts])
    candidates = sorted({token for ids in letter_ids for token in ids})
    log_p_FK = score_next(model, prompts, candidates)
    right, p_right = [], []
    for question, ids, log_p_K in zip(asked, letter_ids, log_p_FK):
        log_p_O = log_p_K[[candidates.index(token) for token in ids]]
        p_O = np.exp(log_p_O - log_p_O.max())
        right.append(int(p_O.argmax()) == question.right)
        p_right.append(float(p_O[question.right] / p_O.sum()))
    note = f"{_chance(asked)}; compare with the unedited model's"
    return (
        intervals.share("multiple_choice_letter", right, counts="facts", unit="accuracy by letter", note=note),
        intervals.mean(
            "multiple_choice_letter_p", p_right, counts="facts", unit="P(right letter | letters)", note=note
        ),
    )


def letter_prompt(concept: Concept, question: Question) -> str:
    """Write the question as text: the first template with a blank, the options with their letters, and “Answer:”."""
    stem = concept.templates_of(question.fact)[0].replace("{subject}", question.fact.subject).rstrip(" ")
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options)]
    return "\n".join([f"Question: {stem} ...", *lines, "Answer:"])


def _chance(asked: Sequence[Question]) -> str:
    return f"chance {np.mean([1 / len(question.options) for question in asked]):.2f}"
