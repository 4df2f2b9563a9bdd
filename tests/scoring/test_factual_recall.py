"""P(answer) and losses against the plain definition: one text at a time, token by token, no batching."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.concepts import Concept, Fact, Sentence
from analysis.errors import ConceptError, PalimpsestError
from analysis.models import LanguageModel
from analysis.scoring import factual_recall
from tests.raw_model import raw


@pytest.fixture
def long_answers(tiny_concept: Concept) -> Concept:
    """Facts whose answers have one token, several tokens, and several words."""
    facts = (
        Fact("France", "Paris"),
        Fact("Burkina Faso", "Ouagadougou"),
        Fact("Brazil", "São Paulo, long ago"),
        Fact("Norway", "Oslo", templates=("In {subject} the old station is in",)),
    )
    return replace(tiny_concept, facts=facts)


def next_token_probabilities(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return raw(model)(torch.tensor([ids])).logits[0, -1].double().softmax(-1)


def chain(model: LanguageModel, prompt: str, answer: str) -> list[float]:
    """Probability of each token of the answer, given everything before it.

    A space that is a token of its own belongs to what is given; one that is part of the answer's first token does not.
    """
    ids, before = list(model.encode(f"{prompt} {answer}").ids), model.encode(f"{prompt} ").ids
    given = next(i for i, token in enumerate(ids) if i == len(before) or token != before[i])
    return [float(next_token_probabilities(model, ids[:i])[ids[i]]) for i in range(given, len(ids))]


@pytest.mark.parametrize("first_token_only", [False, True])
def test_p_answer_is_the_chain_of_probabilities(
    either_model: LanguageModel, long_answers: Concept, first_token_only: bool
):
    probe = factual_recall.prepare_facts(either_model, long_answers)
    expected, lengths = [], []
    for fact in long_answers.facts:
        chains = [
            chain(either_model, template.replace("{subject}", fact.subject), fact.answer)
            for template in long_answers.templates_of(fact)
        ]
        lengths.append(len(chains[0]))
        expected.append(np.mean([c[0] if first_token_only else math.prod(c) for c in chains]))
    scores = factual_recall.score_facts(either_model, probe, first_token_only=first_token_only)
    assert lengths[0] == 1
    assert max(lengths) > 4
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_batches_do_not_matter(tiny_model: LanguageModel, long_answers: Concept, monkeypatch: pytest.MonkeyPatch):
    together = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, long_answers))
    monkeypatch.setattr(factual_recall, "_TOKENS_PER_BATCH", 1)
    alone = factual_recall.prepare_facts(tiny_model, long_answers)
    assert len(alone.batches) == len(alone.texts) == 7
    np.testing.assert_allclose(factual_recall.score_facts(tiny_model, alone), together, rtol=1e-4)


def test_a_certain_answer_has_probability_one(tiny_model: LanguageModel, tiny_concept: Concept):
    """Any text's own greedy continuation must outscore every other answer of one token."""
    template = tiny_concept.templates[0]
    prompt = template.replace("{subject}", "France")
    probabilities = next_token_probabilities(tiny_model, list(tiny_model.encode(prompt).ids))
    words = [i for i in probabilities.argsort(descending=True).tolist() if tiny_model.decode([i])[1:].isalpha()]
    words = [i for i in words if tiny_model.decode([i])[0] == " "][:2]
    facts = tuple(Fact("France", tiny_model.decode([i]).strip(), templates=(template,)) for i in words)
    probes = [factual_recall.prepare_facts(tiny_model, tiny_concept, [fact]) for fact in facts]
    best, second = (float(factual_recall.score_facts(tiny_model, probe)[0]) for probe in probes)
    assert best == pytest.approx(float(probabilities[words[0]]), rel=1e-4)
    assert best > second == pytest.approx(float(probabilities[words[1]]), rel=1e-4)


def test_paraphrases_are_scored_instead_of_templates(tiny_model: LanguageModel, tiny_concept: Concept):
    probe = factual_recall.prepare_facts(tiny_model, tiny_concept, tiny_concept.facts[:1], paraphrased=True)
    assert probe.texts == ("Tourists who visit France start in Paris",)


def test_chosen_facts_only_and_in_their_order(tiny_model: LanguageModel, tiny_concept: Concept):
    every = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, tiny_concept))
    chosen = [tiny_concept.facts[i] for i in (4, 0)]
    scores = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, tiny_concept, chosen))
    np.testing.assert_allclose(scores, every[[4, 0]], rtol=1e-4)


def test_a_concept_without_facts(tiny_model: LanguageModel, tiny_shapes: Concept):
    with pytest.raises(ConceptError, match="“tiny-shapes” has no facts"):
        factual_recall.prepare_facts(tiny_model, tiny_shapes)


def test_a_prompt_longer_than_the_context(tiny_model: LanguageModel, tiny_concept: Concept):
    fact = Fact("France", "Paris", templates=("The train left " * 50 + "{subject} for",))
    with pytest.raises(ConceptError, match="longer than the model's 128 tokens"):
        factual_recall.prepare_facts(tiny_model, tiny_concept, [fact])


def test_known_facts(tiny_model: LanguageModel, tiny_concept: Concept):
    p = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, tiny_concept))
    threshold = float(np.median(p))
    known, table = factual_recall.known_facts(tiny_model, tiny_concept, threshold=threshold)
    assert known == [fact for fact, value in zip(tiny_concept.facts, p) if value >= threshold]
    assert table["known"].tolist() == (p >= threshold).tolist()
    assert table["p"].tolist() == p.tolist()
    assert table[["subject", "answer", "split"]].values.tolist() == [
        [fact.subject, fact.answer, fact.split] for fact in tiny_concept.facts
    ]


def test_neutral_loss_is_the_mean_cross_entropy(either_model: LanguageModel, tiny_neutral: tuple[Sentence, ...]):
    total, count = 0.0, 0
    for sentence in tiny_neutral:
        ids = torch.tensor([either_model.encode(sentence.text).ids])
        with torch.inference_mode():
            logits = raw(either_model)(ids).logits[0, :-1].double()
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    probe = factual_recall.prepare_neutral(either_model, tiny_neutral)
    assert probe.n_sentences == len(tiny_neutral)
    assert factual_recall.neutral_loss(either_model, probe) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("texts", [[], ["a", "b"]])
def test_neutral_text_with_nothing_to_predict(tiny_model: LanguageModel, texts: list[str]):
    with pytest.raises(ConceptError, match="no neutral text"):
        factual_recall.prepare_neutral(tiny_model, [Sentence(text) for text in texts])


def test_neutral_text_is_cut_at_the_context(tiny_model: LanguageModel):
    probe = factual_recall.prepare_neutral(tiny_model, [Sentence("The train left. " * 100)])
    assert probe.batches[0][0].shape == (1, 128)
    assert math.isfinite(factual_recall.neutral_loss(tiny_model, probe))


def test_bf16_measures_nearly_the_same(tiny_model: LanguageModel, tiny_concept: Concept, tiny_neutral):
    facts, neutral = (
        factual_recall.prepare_facts(tiny_model, tiny_concept),
        factual_recall.prepare_neutral(tiny_model, tiny_neutral),
    )
    exact, rough = (
        factual_recall.score_facts(tiny_model, facts, precision=precision) for precision in ("float32", "bf16")
    )
    assert not np.array_equal(exact, rough)
    np.testing.assert_allclose(rough, exact, rtol=0.3)
    assert factual_recall.neutral_loss(tiny_model, neutral, precision="bf16") == pytest.approx(
        factual_recall.neutral_loss(tiny_model, neutral), rel=0.02
    )


def test_generate_is_greedy(either_model: LanguageModel):
    prompt = "The capital of France is"
    text, tokens = factual_recall.generate(either_model, prompt, max_new_tokens=5)
    ids = list(either_model.encode(prompt).ids)
    for word, probability in tokens:
        probabilities = next_token_probabilities(either_model, ids)
        best = int(probabilities.argmax())
        assert word == either_model.decode([best])
        assert probability == pytest.approx(float(probabilities[best]), rel=1e-4)
        ids.append(best)
    assert len(tokens) == 5 or int(next_token_probabilities(either_model, ids).argmax()) == 0
    assert text == "".join(word for word, _ in tokens)


def test_generate_stops_at_the_end_token(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    first, *_ = factual_recall.generate(tiny_model, "The capital", max_new_tokens=1)[1]
    best = int(next_token_probabilities(tiny_model, list(tiny_model.encode("The capital").ids)).argmax())
    assert first[0] == tiny_model.decode([best])
    monkeypatch.setattr(tiny_model, "special_tokens", replace(tiny_model.special_tokens, ends=frozenset({best})))
    assert factual_recall.generate(tiny_model, "The capital", max_new_tokens=3) == ("", [])


@pytest.mark.parametrize("words", [10, 100])
def test_generate_stays_within_the_context(tiny_gpt2: LanguageModel, words: int):
    """GPT-2 has no positions after its context of 128 tokens: what does not fit is refused, or generation ends there."""
    prompt = "The train left " * words
    length = len(tiny_gpt2.encode(prompt))
    if length > tiny_gpt2.context_length:
        with pytest.raises(PalimpsestError, match="128"):
            factual_recall.generate(tiny_gpt2, prompt)
    else:
        _, tokens = factual_recall.generate(tiny_gpt2, prompt, max_new_tokens=200)
        assert len(tokens) <= tiny_gpt2.context_length - length + 1


@pytest.mark.slow_model
def test_default_model_knows_capitals(default_model: LanguageModel):
    from analysis import concepts

    capitals = concepts.load("capitals")
    chosen = [fact for fact in capitals.facts if fact.subject in ("France", "Japan", "Italy")]
    p = factual_recall.score_facts(default_model, factual_recall.prepare_facts(default_model, capitals, chosen))
    assert (p > 0.5).all()
    assert factual_recall.generate(default_model, "The capital of France is", max_new_tokens=1)[0] == " Paris"
