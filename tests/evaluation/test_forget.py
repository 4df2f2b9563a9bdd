"""Forget measures against a one-text-at-a-time computation, and against answers made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.concepts import Concept, Fact, Translation
from analysis.errors import ConceptError, ModelFileError
from analysis.evaluation import choice, forget
from analysis.evaluation.forget import extraction_strength
from analysis.models import LanguageModel
from analysis.scoring import factual_recall
from tests.raw_model import raw


def log_p_of_tokens(model: LanguageModel, prompt: str, answer: str) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of each answer token, and whether it is the greedy one: one token at a time."""
    ids, n_before = model.encode(f"{prompt} {answer}").ids, len(prompt)
    offsets = model.encode(f"{prompt} {answer}").offsets
    first = next(i for i, (_, end) in enumerate(offsets) if end > n_before + 1)
    logs, greedy = [], []
    for i in range(first, len(ids)):
        with torch.inference_mode():
            logits = raw(model)(torch.tensor([ids[:i]])).logits[0, -1].double()
        logs.append(float(logits.log_softmax(-1)[ids[i]]))
        greedy.append(bool(logits.argmax() == ids[i]))
    return np.array(logs), np.array(greedy)


@pytest.fixture
def mixed(tiny_concept: Concept) -> Concept:
    """Answers of one token and of many."""
    return replace(
        tiny_concept, facts=(Fact("France", "Paris"), Fact("Brazil", "São Paulo, long ago"), Fact("Norway", "Oslo"))
    )


@pytest.mark.parametrize(
    ("greedy", "expected"),
    [
        ("1111", 1.0),
        ("0000", 0.0),
        ("0001", 0.25),
        ("1000", 0.0),
        ("0111", 0.75),
        ("1011", 0.5),
        ("1", 1.0),
        ("0", 0.0),
    ],
)
def test_extraction_strength_by_hand(greedy: str, expected: float):
    assert extraction_strength(np.array([char == "1" for char in greedy])) == expected


def test_recall_token_by_token(either_model: LanguageModel, mixed: Concept):
    found = forget.recall(either_model, mixed, mixed.facts)
    for f, fact in enumerate(mixed.facts):
        scored = [
            log_p_of_tokens(either_model, t.replace("{subject}", fact.subject), fact.answer) for t in mixed.templates
        ]
        assert found.p_F[f] == pytest.approx(np.mean([np.exp(logs.sum()) for logs, _ in scored]), rel=1e-4)
        assert found.exact_F[f] == pytest.approx(np.mean([greedy.mean() for _, greedy in scored]))
        expected = []
        for _, greedy in scored:
            k = next(k for k in range(len(greedy) + 1) if all(greedy[k:]))
            expected.append(1 - k / len(greedy))
        assert found.extraction_F[f] == pytest.approx(np.mean(expected))
    np.testing.assert_allclose(
        found.p_F,
        factual_recall.score_facts(either_model, factual_recall.prepare_facts(either_model, mixed)),
        rtol=1e-5,
    )
    assert [one.name for one in found.measures()] == ["forget", "exact_memorization", "extraction_strength"]


def test_a_greedy_answer_is_memorized(tiny_model: LanguageModel, tiny_concept: Concept):
    """The model's own continuation of a prompt is extracted whole."""
    prompt = "The capital of France is"
    for token in range(tiny_model.vocabulary_size):
        word = tiny_model.decode([token])
        if word[:1] != " " or not word[1:].isalpha():
            continue
        logs, greedy = log_p_of_tokens(tiny_model, prompt, word.strip())
        fact = Fact("France", word.strip(), templates=("The capital of {subject} is",))
        found = forget.recall(tiny_model, tiny_concept, [fact])
        assert found.exact_F[0] == pytest.approx(greedy.mean())
        assert found.p_F[0] == pytest.approx(np.exp(logs.sum()), rel=1e-4)


def test_paraphrases(tiny_model: LanguageModel, tiny_concept: Concept):
    found = forget.paraphrases(tiny_model, tiny_concept, tiny_concept.facts)
    probe = factual_recall.prepare_facts(tiny_model, tiny_concept, paraphrased=True)
    assert found.value == pytest.approx(factual_recall.score_facts(tiny_model, probe).mean(), rel=1e-5)
    with pytest.raises(ConceptError, match="no paraphrases"):
        forget.paraphrases(tiny_model, replace(tiny_concept, paraphrases=()), tiny_concept.facts)
    own = (replace(tiny_concept.facts[0], paraphrases=("Of {subject}:",)), tiny_concept.facts[1])
    partly = forget.paraphrases(tiny_model, replace(tiny_concept, paraphrases=()), own)
    assert (partly.n, partly.note) == (1, "1 facts without a paraphrase left out")


def test_reverse_counts_any_right_subject(tiny_model: LanguageModel, tiny_concept: Concept):
    facts = (Fact("France", "west"), Fact("Spain", "west"), Fact("Japan", "east"))
    concept = replace(tiny_concept, facts=facts, reverse=("In the {answer} is", "To the {answer} lies"))
    found = forget.reverse(tiny_model, concept, facts[:1])
    total = [
        sum(np.exp(log_p_of_tokens(tiny_model, prompt, subject)[0].sum()) for subject in ("France", "Spain"))
        for prompt in ("In the west is", "To the west lies")
    ]
    assert found.value == pytest.approx(np.mean(total), rel=1e-4)
    assert (found.n, found.counts) == (1, "answers")
    assert forget.reverse(tiny_model, concept, facts).n == 2


def test_reverse_counts_no_subject_twice(tiny_model: LanguageModel, tiny_concept: Concept):
    """“Guinea Bissau” begins with “Guinea”, whose probability holds it already."""
    short = replace(tiny_concept, facts=(Fact("Guinea", "west"),), reverse=("In the {answer} is",))
    both = replace(short, facts=(*short.facts, Fact("Guinea Bissau", "west")))
    assert forget.reverse(tiny_model, both, both.facts).value == pytest.approx(
        forget.reverse(tiny_model, short, short.facts).value, rel=1e-6
    )


def test_reverse_needs_prompts(tiny_model: LanguageModel, tiny_concept: Concept):
    with pytest.raises(ConceptError, match="no reverse prompts"):
        forget.reverse(tiny_model, tiny_concept, tiny_concept.facts)


def test_languages_only_where_known(tiny_model: LanguageModel, tiny_concept: Concept):
    german = Translation(
        language="German",
        templates=("Die Hauptstadt {subject} ist",),
        subjects=(("France", "von Frankreich"), ("Italy", "von Italien")),
        answers=(("Rome", "Rom"),),
    )
    latin = Translation(language="Latin", templates=("Caput {subject} est",), subjects=())
    concept = replace(tiny_concept, translations=(german, latin))
    p = {
        subject: np.exp(log_p_of_tokens(tiny_model, f"Die Hauptstadt {subject} ist", answer)[0].sum())
        for subject, answer in (("von Frankreich", "Paris"), ("von Italien", "Rom"))
    }
    threshold = float(np.mean(list(p.values())))
    known = forget.known_in_languages(tiny_model, concept, concept.facts, threshold=threshold)
    expected = [subject for subject in p if p[subject] >= threshold]
    assert [fact.subject for fact in known["German"]] == expected
    measures, skipped = forget.in_languages(tiny_model, concept, known)
    assert [(one.name, one.n) for one in measures] == [("language: German", 1)]
    assert measures[0].value == pytest.approx(p[expected[0]], rel=1e-4)
    assert skipped == {"language: Latin": "The unedited model knows none of the facts in Latin."}


def test_not_finite_is_a_clear_error(tiny_model: LanguageModel, tiny_concept: Concept):
    with torch.no_grad():
        tiny_model.blocks[1].mlp_output.weight.fill_(float("nan"))
    with pytest.raises(ModelFileError, match="not finite"):
        forget.recall(tiny_model, tiny_concept, tiny_concept.facts)
    asked = choice.questions(tiny_concept, tiny_concept.facts)
    with pytest.raises(ModelFileError, match="not finite"):
        choice.by_letter(tiny_model, tiny_concept, asked)


def test_no_facts(tiny_model: LanguageModel, tiny_concept: Concept):
    with pytest.raises(ConceptError, match="no facts"):
        forget.recall(tiny_model, tiny_concept, [])


def test_questions(tiny_concept: Concept):
    asked = choice.questions(tiny_concept, tiny_concept.facts, seed=5)
    assert asked == choice.questions(tiny_concept, tiny_concept.facts, seed=5)
    for question, fact in zip(asked, tiny_concept.facts):
        assert question.options[question.right] == fact.answer
        assert len(set(question.options)) == 4
    letters = [question.right for question in choice.questions(tiny_concept, tiny_concept.facts * 4, seed=1)]
    assert np.bincount(letters).tolist() == [6, 6, 6, 6]


def test_questions_have_one_right_option(tiny_concept: Concept):
    other = ("{subject} speaks",)
    facts = (
        Fact("France", "Paris"), Fact("Japan", "Tokyo"), Fact("Peru", "Lima"), Fact("Cuba", "Havana"),
        Fact("France", "French", templates=other), Fact("Japan", "Japanese", templates=other),
    )  # fmt: skip
    concept = replace(tiny_concept, facts=facts)
    asked = choice.questions(concept, facts)
    assert set(asked[0].options) == {"Paris", "Tokyo", "Lima", "Havana"}  # of its own template
    assert "Paris" not in asked[4].options  # right for France, asked otherwise
    two = replace(concept, facts=facts[:2])
    assert {len(question.options) for question in choice.questions(two, two.facts)} == {2}
    with pytest.raises(ConceptError, match="no wrong answers"):
        choice.questions(replace(concept, facts=facts[:1]), facts[:1])


def test_likelihood_and_truth_ratio(tiny_model: LanguageModel, tiny_concept: Concept):
    asked = choice.questions(tiny_concept, tiny_concept.facts)
    scores = choice.option_scores(tiny_model, tiny_concept, asked)
    right, ratios = [], []
    for question in asked:
        prompt = tiny_concept.templates[0].replace("{subject}", question.fact.subject)
        means = [log_p_of_tokens(tiny_model, prompt, option)[0].mean() for option in question.options]
        perplexities = [np.exp(-one) for one in means]
        right.append(int(np.argmin(perplexities)) == question.right)
        wrong = [one for i, one in enumerate(means) if i != question.right]
        ratio = np.exp(np.mean(wrong)) / np.exp(means[question.right])
        ratios.append(min(ratio, 1 / ratio))
    found = choice.by_likelihood(asked, scores)
    assert found.value == pytest.approx(np.mean(right))
    assert found.note == "chance 0.25"
    assert choice.truth_ratio(asked, scores).value == pytest.approx(np.mean(ratios), rel=1e-4)


def test_truth_ratio_by_hand():
    asked = [choice.Question(Fact("a", "b"), ("b", "c", "d"), 0)] * 3
    even, believed, denied = np.log([0.2, 0.1, 0.4]), np.log([0.8, 0.1, 0.1]), np.log([0.1, 0.8, 0.8])
    assert choice.truth_ratio(asked[:1], [even]).value == pytest.approx(1.0)  # 0.2 is the geometric mean of the others
    assert choice.truth_ratio(asked[:1], [believed]).value == pytest.approx(0.125)
    assert choice.truth_ratio(asked[:1], [denied]).value == pytest.approx(0.125)
    impossible = np.array([0.0, -5000.0, -5000.0])
    assert choice.truth_ratio(asked, [even, believed, impossible]).value == pytest.approx(1.125 / 3)


def test_letters(either_model: LanguageModel, tiny_concept: Concept):
    asked = choice.questions(tiny_concept, tiny_concept.facts)
    accuracy, probability = choice.by_letter(either_model, tiny_concept, asked)
    right, p = [], []
    for question in asked:
        prompt = choice.letter_prompt(tiny_concept, question)
        assert prompt.endswith(f"D. {question.options[3]}\nAnswer:")
        ids = [either_model.encode(f"{prompt} {letter}").ids for letter in "ABCD"]
        with torch.inference_mode():
            logits = raw(either_model)(torch.tensor([ids[0][:-1]])).logits[0, -1].double()
        p_letters = logits[[one[-1] for one in ids]].softmax(-1)
        right.append(int(p_letters.argmax()) == question.right)
        p.append(float(p_letters[question.right]))
    assert accuracy.value == pytest.approx(np.mean(right))
    assert probability.value == pytest.approx(np.mean(p), rel=1e-4)
