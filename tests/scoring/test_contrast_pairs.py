"""Pairs of prompts: what twins share, what they do not, and how answers are scored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.concepts import Concept, Fact, Sentence
from analysis.errors import ConceptError, ConfigError
from analysis.localization import activation_patching
from analysis.models import LanguageModel
from analysis.scoring.contrast_pairs import (
    CORRUPTIONS,
    PairBatch,
    PromptPairs,
    answer_batches,
    answer_log_p,
    pair_prompts,
    score,
)
from tests.raw_model import raw
from tests.tiny_families import LOADABLE, tiny_family

TEMPLATE = "The capital of {subject} is"


def rows(pairs: PromptPairs) -> list[tuple[PairBatch, int]]:
    return [(batch, b) for batch in pairs.batches for b in range(len(batch.clean_BP))]


def texts(model: LanguageModel, ids: torch.Tensor) -> str:
    return model.decode(ids.tolist())


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_twins_differ_at_the_subject_only(either_model: LanguageModel, tiny_concept: Concept, corruption):
    pairs = pair_prompts(either_model, tiny_concept, corruption=corruption)
    assert sum(len(batch.clean_BP) for batch in pairs.batches) == pairs.n_prompts
    assert pairs.n_prompts + pairs.n_refused == 12
    for batch, b in rows(pairs):
        fact = pairs.facts[batch.facts[b]]
        clean, corrupted = batch.clean_BP[b], batch.corrupted_BP[b]
        changed = clean != corrupted
        assert not (changed & ~batch.subject_BP[b]).any()
        assert texts(either_model, clean[batch.subject_BP[b]]).strip() == fact.subject
        assert texts(either_model, clean[batch.answer_BP[b]]).strip() == fact.answer
        prompt = texts(either_model, clean[: int(batch.last_B[b]) + 1]).rstrip()
        assert prompt in {template.replace("{subject}", fact.subject) for template in tiny_concept.templates}
        assert int(batch.last_B[b]) + 1 == int(torch.where(batch.answer_BP[b])[0][0])
        assert changed.any() == (corruption != "noise")


def test_swapped_subjects_have_another_answer(either_model: LanguageModel, tiny_concept: Concept):
    answers = {fact.subject: fact.answer for fact in tiny_concept.facts}
    pairs = pair_prompts(either_model, tiny_concept, corruption="swap")
    for batch, b in rows(pairs):
        other = texts(either_model, batch.corrupted_BP[b][batch.subject_BP[b]]).strip()
        assert answers[other] != pairs.facts[batch.facts[b]].answer


def test_random_subjects_are_printable_and_depend_on_the_seed(tiny_model: LanguageModel, tiny_concept: Concept):
    first, again, other = (pair_prompts(tiny_model, tiny_concept, corruption="random", seed=s) for s in (0, 0, 1))
    special = set(tiny_model.tokenizer.all_special_ids)
    drawn = set()
    for batch, b in rows(first):
        for token in batch.corrupted_BP[b][batch.subject_BP[b]].tolist():
            assert token not in special
            text = tiny_model.decode([token])
            assert text.isascii()
            assert text.isprintable()
            assert text.strip()
            drawn.add(token)
    assert len(drawn) > 5
    assert torch.equal(first.batches[0].corrupted_BP, again.batches[0].corrupted_BP)
    assert not torch.equal(first.batches[0].corrupted_BP, other.batches[0].corrupted_BP)


def test_noise_has_the_asked_size_and_stays_on_the_subject(either_model: LanguageModel, tiny_concept: Concept):
    """Standard deviation: `noise_scale` times that of the subjects' token embeddings."""
    pairs = pair_prompts(either_model, tiny_concept, corruption="noise", noise_scale=2.0)
    weight = raw(either_model).get_input_embeddings().weight.detach()
    ids = {t for batch, b in rows(pairs) for t in batch.clean_BP[b][batch.subject_BP[b]].tolist()}
    expected = 2.0 * float(weight[sorted(ids)].std())
    values = torch.cat([batch.noise_BPD[batch.subject_BP].flatten() for batch in pairs.batches])
    assert float(values.std()) == pytest.approx(expected, rel=0.1)
    assert float(values.mean()) == pytest.approx(0, abs=0.1 * expected)
    for batch in pairs.batches:
        assert (batch.noise_BPD[~batch.subject_BP] == 0).all()
        seen = {}
        hooks = [*batch.corruption_hooks(), ("embed.hook_out", lambda a, hook, seen=seen: seen.update(after=a.clone()))]
        with torch.inference_mode(), either_model.hooks(hooks):
            either_model.logits(batch.corrupted_BP)
        torch.testing.assert_close(seen["after"], weight[batch.clean_BP] + batch.noise_BPD)
    assert not pair_prompts(either_model, tiny_concept).batches[0].corruption_hooks()


@pytest.mark.parametrize("family", LOADABLE)
def test_noise_is_three_standard_deviations_of_what_the_model_computes_with(
    tmp_path: Path, tokenizer, tiny_concept: Concept, family: str
):
    """Measured in a run of the model: what the noise adds, against the subjects' embeddings without it."""
    model = tiny_family(family, tokenizer, tmp_path)
    pairs = pair_prompts(model, tiny_concept, corruption="noise")
    clean, added = {}, []

    def note(into: list[torch.Tensor]):
        return ("embed.hook_out", lambda embedded, hook: into.append(embedded.clone()))

    for batch in pairs.batches:
        before, after = [], []
        with torch.inference_mode():
            with model.hooks([note(before)]):
                model.logits(batch.clean_BP)
            with model.hooks([*batch.corruption_hooks(), note(after)]):
                model.logits(batch.corrupted_BP)
        added.append((after[0] - before[0])[batch.subject_BP])
        clean |= dict(zip(batch.clean_BP[batch.subject_BP].tolist(), before[0][batch.subject_BP]))
    assert float(torch.cat(added).std() / torch.stack(list(clean.values())).std()) == pytest.approx(3, rel=0.1)


def test_prompts_are_spread_over_facts(tiny_model: LanguageModel, tiny_concept: Concept):
    for count, most in ((6, 1), (8, 2), (100, 2)):
        pairs = pair_prompts(tiny_model, tiny_concept, corruption="noise", max_prompts=count)
        times = np.bincount([batch.facts[b] for batch, b in rows(pairs)], minlength=6)
        assert times.sum() == pairs.n_prompts == min(count, 12)
        assert times.min() == (2 if count == 100 else 1)
        assert times.max() == most
        assert pairs.provenance["n_facts"] == 6
    drawn = {
        tuple(sorted(texts(tiny_model, batch.clean_BP[b]) for batch, b in rows(pair_prompts(
            tiny_model, tiny_concept, corruption="noise", max_prompts=6, seed=seed))))
        for seed in range(6)
    }  # fmt: skip
    assert len(drawn) > 1


@pytest.mark.parametrize("metric", ["log_p", "logit_difference"])
def test_scores_equal_their_definitions(either_model: LanguageModel, tiny_concept: Concept, metric):
    pairs = pair_prompts(either_model, tiny_concept)
    first = {fact.answer: None for fact in pairs.facts}
    for batch, b in rows(pairs):
        first[pairs.facts[batch.facts[b]].answer] = int(batch.clean_BP[b][batch.answer_BP[b]][0])
    for batch in pairs.batches:
        logits = either_model.logits(batch.clean_BP).detach()
        scores = score(logits, batch, metric)
        for b in range(len(scores)):
            positions = torch.where(batch.answer_BP[b])[0].tolist()
            own = int(batch.clean_BP[b, positions[0]])
            at = logits[b, positions[0] - 1].double()
            if metric == "logit_difference":
                others = sorted({t for t in first.values() if t is not None and t != own})
                expected = float(at[own] - at[others].mean())
            else:
                expected = sum(
                    float(logits[b, p - 1].double().log_softmax(-1)[batch.clean_BP[b, p]]) for p in positions
                )
            assert float(scores[b]) == pytest.approx(expected, abs=1e-4)


def test_scores_have_gradients(tiny_model: LanguageModel, tiny_concept: Concept):
    batch = pair_prompts(tiny_model, tiny_concept).batches[0]
    logits = tiny_model.logits(batch.clean_BP).detach().requires_grad_(True)
    for metric in ("log_p", "logit_difference"):
        (gradient,) = torch.autograd.grad(score(logits, batch, metric).sum(), logits)
        where = gradient.abs().sum(-1) > 0
        assert where.any()
        # nothing but the positions that predict answer tokens matters
        predicting = torch.zeros_like(batch.answer_BP)
        predicting[:, :-1] = batch.answer_BP[:, 1:]
        assert not (where & ~predicting).any()


def test_a_counter_answer_is_what_the_answer_is_compared_with(tiny_model: LanguageModel):
    facts = (
        Fact("France", "Paris", counter_answer="Rome"),
        Fact("Italy", "Rome"),
        Fact("Japan", "Tokyo"),
    )
    concept = Concept(name="countered", title="Countered", templates=(TEMPLATE,), facts=facts)
    pairs = pair_prompts(tiny_model, concept, corruption="noise")
    for batch, b in rows(pairs):
        weights = dict(zip(batch.candidates_K.tolist(), batch.contrast_BK[b].tolist()))
        kept = sorted(weight for weight in weights.values() if weight)
        assert kept == ([-1.0, 1.0] if batch.facts[b] == 0 else [-0.5, -0.5, 1.0])
        own = int(batch.clean_BP[b][batch.answer_BP[b]][0])
        assert weights[own] == 1.0


def test_subjects_without_a_twin_are_left_out_and_counted(tiny_model: LanguageModel):
    """Subjects of different lengths, or with one answer, cannot stand in for each other."""
    lengths = {name: len(tiny_model.encode(f" {name}").ids) for name in ("France", "Norway", "Kyrgyzstan")}
    assert lengths["France"] == lengths["Norway"] != lengths["Kyrgyzstan"]
    facts = (Fact("France", "Paris"), Fact("Norway", "Oslo"), Fact("Kyrgyzstan", "Oslo"))
    concept = Concept(name="lengths", title="Lengths", templates=(TEMPLATE,), facts=facts)
    pairs = pair_prompts(tiny_model, concept)
    assert (pairs.n_prompts, pairs.n_refused) == (2, 1)
    same = replace(concept, facts=(Fact("France", "Paris"), Fact("Norway", "Paris")))
    with pytest.raises(ConceptError, match="equally many tokens and different answers"):
        pair_prompts(tiny_model, same)
    alike = pair_prompts(tiny_model, same, corruption="random")
    assert alike.n_prompts == 2
    with pytest.raises(ConceptError, match="All answers begin alike"):
        activation_patching(tiny_model, alike, metric="logit_difference")


def test_what_cannot_be_asked_is_refused(
    tiny_model: LanguageModel, tiny_concept: Concept, tiny_shapes: Concept, unchecked_types
):
    with pytest.raises(ConfigError, match="not a corruption"):
        pair_prompts(tiny_model, tiny_concept, corruption="shuffle")
    with pytest.raises(ConfigError, match="at least 1"):
        pair_prompts(tiny_model, tiny_concept, max_prompts=0)
    with pytest.raises(ConceptError, match="no facts"):
        pair_prompts(tiny_model, tiny_shapes)
    long = Concept(name="long", title="Long", templates=("old " * 200 + TEMPLATE,), facts=tiny_concept.facts)
    with pytest.raises(ConceptError, match="longer than the model's 128 tokens"):
        pair_prompts(tiny_model, long)
    batch = pair_prompts(tiny_model, tiny_concept).batches[0]
    with pytest.raises(ConfigError, match="not a metric"):
        score(tiny_model.logits(batch.clean_BP), batch, "accuracy")


def test_answers_of_facts_and_of_sentences(tiny_model: LanguageModel, tiny_concept: Concept, tiny_shapes: Concept):
    batches = answer_batches(tiny_model, tiny_concept)
    assert sum(len(batch.tokens_BP) for batch in batches) == 12
    found = {
        texts(tiny_model, batch.tokens_BP[b][batch.answer_BP[b]]).strip()
        for batch in batches
        for b in range(len(batch.tokens_BP))
    }
    assert found == {fact.answer for fact in tiny_concept.facts}
    shapes = answer_batches(tiny_model, tiny_shapes)
    words = {
        texts(tiny_model, batch.tokens_BP[b][batch.answer_BP[b]]).strip()
        for batch in shapes
        for b in range(len(batch.tokens_BP))
    }
    assert all({"circle", "square"} & set(word.split()) for word in words)
    assert sum(len(batch.tokens_BP) for batch in answer_batches(tiny_model, tiny_concept, max_examples=5)) == 5
    with pytest.raises(ConfigError, match="at least 1"):
        answer_batches(tiny_model, tiny_concept, max_examples=0)
    first = Concept(name="first", title="First", sentences=(Sentence("The", ((0, 3),)),))
    with pytest.raises(ConceptError, match="does not come first"):
        answer_batches(tiny_model, first)


def test_log_p_of_answers_is_what_pairs_score(tiny_model: LanguageModel, tiny_concept: Concept):
    batch = pair_prompts(tiny_model, tiny_concept).batches[0]
    logits = tiny_model.logits(batch.clean_BP).detach()
    torch.testing.assert_close(answer_log_p(logits, batch.clean_BP, batch.answer_BP), score(logits, batch))
