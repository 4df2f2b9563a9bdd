"""Attacks leave the model as it was, bit for bit, and do what they say; probes find what was planted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.concepts import Concept, Fact, Sentence
from analysis.errors import ConceptError, ConfigError
from analysis.evaluation import attacks, latent, quantized
from analysis.evaluation.soft_prompts import bound, soft_prompts, typical_norm
from analysis.lens import logit_lens
from analysis.models import LanguageModel
from analysis.scoring import factual_recall
from tests.plain_transformers import Plain
from tests.raw_model import raw
from tests.shared_models import shared
from tests.tiny_families import tiny_family


def bits(model: LanguageModel) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in raw(model).parameters()]


def test_rounding_by_hand():
    weight = torch.tensor([[7.0, 3.4, -3.6, 0.0], [0.0, 0.0, 0.0, 0.0], [-14.0, 1.0, 1.1, 13.1]])
    expected = torch.tensor([[7.0, 3.0, -4.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-14.0, 0.0, 2.0, 14.0]])
    torch.testing.assert_close(
        attacks.rounded(weight, 4), expected
    )  # 7 steps; the last row's step is 2; 0.5 goes to even
    torch.testing.assert_close(attacks.rounded(weight.T, 4, rows=1), expected.T)
    for count in (1, 9):
        with pytest.raises(ConfigError, match="2 to 8 bits"):
            attacks.rounded(weight, count)


def test_eight_bits_have_small_errors():
    weight = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    error = (attacks.rounded(weight, 8) - weight).abs() / weight.abs().amax(1, keepdim=True)
    assert 0.3 / 127 < error.max() <= 0.5001 / 127
    assert all(len(row.unique()) <= 15 for row in attacks.rounded(weight, 4))


def test_denormal_weights_do_not_become_nan():
    assert torch.isfinite(attacks.rounded(torch.full((2, 3), 1e-45), 4)).all()


@pytest.mark.parametrize("folder", ["tiny_folder", "tiny_gpt2_folder"])
def test_a_quantized_model_is_a_plain_model_with_rounded_weights(folder: str, request: pytest.FixtureRequest):
    """All linear layers inside the blocks of transformers' own model, whatever the bridge made of them."""
    path: Path = request.getfixturevalue(folder)
    model = request.getfixturevalue({"tiny_folder": "tiny_model", "tiny_gpt2_folder": "tiny_gpt2"}[folder])
    plain = Plain(path)
    ids = model.encode("The capital of France is Paris").ids
    n_linear = 0
    with torch.no_grad():
        for block in plain.blocks:
            for parameter in block.parameters():
                if parameter.ndim == 2:
                    n_linear += 1
                    rows = parameter.T if plain.is_gpt2 else parameter  # one output a row
                    scale = rows.abs().max(dim=1, keepdim=True).values / 7
                    values = (rows / scale).round() * scale
                    parameter.copy_(values.T if plain.is_gpt2 else values)
    before = bits(model)
    with quantized(model, 4) as count, torch.no_grad():
        logits = raw(model)(torch.tensor([ids])).logits[0]
        assert bits(model) != before
    assert count == (12 if plain.is_gpt2 else n_linear)  # the bridge keeps GPT-2's queries, keys and values apart
    torch.testing.assert_close(logits, plain.run(ids)[0], rtol=1e-3, atol=1e-4)
    assert bits(model) == before


def test_weights_come_back_after_an_error(tiny_model: LanguageModel):
    before = bits(tiny_model)
    with pytest.raises(RuntimeError, match="inside"), quantized(tiny_model, 4):
        raise RuntimeError("inside")
    assert bits(tiny_model) == before


def test_quantization_scores_the_rounded_model(tiny_model: LanguageModel, tiny_concept: Concept):
    found = attacks.quantization(tiny_model, tiny_concept, tiny_concept.facts, bits=4)
    probe = factual_recall.prepare_facts(tiny_model, tiny_concept)
    with quantized(tiny_model, 4):
        expected = factual_recall.score_facts(tiny_model, probe).mean()
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert found.value != pytest.approx(factual_recall.score_facts(tiny_model, probe).mean(), rel=1e-3)
    assert found.name == "quantized_4bit"


def test_halves(tiny_concept: Concept):
    first, second = attacks.halves(tiny_concept.facts[:5], seed=3)
    assert (len(first), len(second)) == (3, 2)
    assert {*first, *second} == set(tiny_concept.facts[:5])
    assert attacks.halves(tiny_concept.facts[:5], seed=3) == (first, second)
    with pytest.raises(ConceptError, match="at least two facts"):
        attacks.halves(tiny_concept.facts[:1])


def test_relearning_teaches_one_half_and_leaves_no_trace(
    tiny_model: LanguageModel, tiny_concept: Concept, tiny_neutral: tuple[Sentence, ...]
):
    before = bits(tiny_model)
    trains = [parameter.requires_grad for parameter in raw(tiny_model).parameters()]
    seen = []
    held_out, trained = attacks.relearning(
        tiny_model, tiny_concept, tiny_concept.facts, steps=12, learning_rate=3e-3, neutral=tiny_neutral,
        progress=lambda what, share: seen.append(share),
    )  # fmt: skip
    first, second = attacks.halves(tiny_concept.facts)
    start = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, tiny_concept, first)).mean()
    assert trained.value > 10 * start
    assert trained.value > held_out.value
    assert (trained.n, held_out.n) == (len(first), len(second))
    assert trained.note == "12 steps on 3 facts"
    assert seen[-1] == 1
    assert bits(tiny_model) == before
    assert [parameter.requires_grad for parameter in raw(tiny_model).parameters()] == trains
    assert all(parameter.grad is None for parameter in raw(tiny_model).parameters())
    stopped, _ = attacks.relearning(
        tiny_model, tiny_concept, tiny_concept.facts, neutral=tiny_neutral, should_stop=lambda: True
    )
    assert stopped.note == "1 steps on 3 facts"


def test_soft_prompts_teach_within_their_bound(either_model: LanguageModel, tiny_concept: Concept):
    before = bits(either_model)
    held_out, trained = soft_prompts(either_model, tiny_concept, tiny_concept.facts, steps=40)
    first, second = attacks.halves(tiny_concept.facts)
    start = factual_recall.score_facts(
        either_model, factual_recall.prepare_facts(either_model, tiny_concept, first)
    ).mean()
    assert trained.value > 3 * start
    assert (trained.n, held_out.n) == (len(first), len(second))
    assert bits(either_model) == before
    assert all(parameter.grad is None for parameter in raw(either_model).parameters())
    with pytest.raises(ConfigError, match="at least one vector"):
        soft_prompts(either_model, tiny_concept, tiny_concept.facts, epsilon=0.0)


def test_no_vector_leaves_the_bound(tiny_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch):
    from analysis.evaluation import soft_prompts as module

    seen, score = [], module._score
    monkeypatch.setattr(module, "_score", lambda *given: seen.append(given[1].norm(dim=1)) or score(*given))
    typical = float(raw(tiny_model).get_input_embeddings().weight.detach().norm(dim=1).median())
    for epsilon in (0.2, 6.0):
        module.soft_prompts(tiny_model, tiny_concept, tiny_concept.facts, epsilon=epsilon)
    assert seen[0].tolist() == pytest.approx([0.2 * typical] * 4, rel=1e-3)  # pushed against it
    assert 0.2 * typical < seen[-1].max() <= 6 * typical


def test_the_bound_is_in_units_of_scaled_embeddings(tmp_path: Path, tokenizer):
    for family, factor in (("gemma2", 32**0.5), ("granite", 1.0), ("neox", 1.0)):
        model = tiny_family(family, tokenizer, tmp_path)
        norms = raw(model).get_input_embeddings().weight.detach().norm(dim=1)
        assert typical_norm(model) == pytest.approx(factor * float(norms.median()), rel=1e-3)


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite", "bloom", "neox", "gpt2", "olmo2"])
def test_a_soft_prompt_of_tokens_is_those_tokens(
    tmp_path: Path, tokenizer, tiny_folder: Path, tiny_concept, family: str
):
    """Embeddings of real tokens before the prompt give what the tokens give, scaled as the family scales them."""
    tiny_model = shared(tiny_folder) if family == "llama" else tiny_family(family, tokenizer, tmp_path)
    from analysis.evaluation.soft_prompts import _log_p

    batch = factual_recall.prepare_facts(tiny_model, tiny_concept, tiny_concept.facts[:1]).batches[0]
    prefix = list(tiny_model.encode("My brother").ids)
    with torch.no_grad():
        found = _log_p(tiny_model, tiny_model.embed(torch.tensor([prefix]))[0], batch.tokens_BP, batch.answer_BP)
    for b, row in enumerate(batch.tokens_BP.tolist()):
        answer = batch.answer_BP[b].nonzero().flatten().tolist()
        with torch.inference_mode():
            log_p = raw(tiny_model)(torch.tensor([prefix + row])).logits[0].log_softmax(-1)
        expected = sum(float(log_p[len(prefix) + p - 1, row[p]]) for p in answer)
        assert float(found[b]) == pytest.approx(expected, rel=1e-4)


def test_bound():
    vectors = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(bound(vectors, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def planted(n: int, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Facts of two classes whose direction is in the last of two depths only; three prompts each."""
    random = np.random.default_rng(seed)
    answers = ["east" if i % 2 else "west" for i in range(n)]
    states = random.normal(size=(2, 3 * n, 12))
    fact_X = np.repeat(np.arange(n), 3)
    states[1, :, 0] += strength * np.array([1 if answers[f] == "east" else -1 for f in fact_X])
    return states, fact_X, answers


def test_probes_read_a_planted_class_and_nothing_elsewhere():
    states, fact_X, answers = planted(40, 8.0)
    read_RY, names = latent.transfer(states, fact_X, answers[:30], 10)
    truth = np.array([names.index(answers[f]) for f in fact_X[fact_X >= 30]])
    assert (read_RY[1] == truth).all()
    assert 0.15 < (read_RY[0] == truth).mean() < 0.85


def test_probes_read_an_answer_they_never_saw():
    random = np.random.default_rng(1)
    vectors = {f"city {i:02d}": random.normal(size=6) for i in range(40)}
    mixing = random.normal(size=(6, 24))
    states = np.stack([np.stack(list(vectors.values())) @ mixing, random.normal(size=(40, 24))])
    read_RY, names = latent.transfer(states, np.arange(40), list(vectors)[:30], 10, vectors=vectors)
    wanted = [names.index(name) for name in list(vectors)[30:]]
    assert (read_RY[0] == wanted).mean() >= 0.8
    assert (read_RY[1] == wanted).mean() <= 0.3


def many(tiny_concept: Concept, n: int = 24) -> Concept:
    words = [a + b for a in "bdfgklmnprst" for b in ("an", "or")]
    return replace(tiny_concept, facts=tuple(Fact(words[i].title(), "east" if i % 2 else "west") for i in range(n)))


def test_probing_forgotten_facts(tiny_model: LanguageModel, tiny_concept: Concept):
    concept = many(tiny_concept)
    maintained, forgotten = (
        concept.facts[:16],
        [replace(f, counter_answer="west" if f.answer == "east" else "east") for f in concept.facts[16:]],
    )
    found = latent.probe_forgotten(tiny_model, concept, forgotten, maintained)
    true, injected = found.measures
    assert (true.name, injected.name) == ("probe_true", "probe_injected")
    assert true.value + injected.value == pytest.approx(
        1
    )  # two classes: what is not read as the one is read as the other
    assert true.n == 8
    assert true.note == "chance about 0.50"
    assert [curve.layers for curve in found.curves] == [(-1, 0, 1, 2)] * 2
    assert np.mean(found.curves[0].values) == pytest.approx(true.value)
    with pytest.raises(ConceptError, match="it needs 10"):
        latent.probe_forgotten(tiny_model, concept, forgotten, maintained[:9])
    with pytest.raises(ConceptError, match="no probe can read it"):
        latent.probe_forgotten(tiny_model, concept, [Fact("Ban", "north")], maintained)


def test_probing_answers_that_do_not_repeat(tiny_model: LanguageModel, tiny_concept: Concept):
    words = "kettle window papers meeting names lift brother tools door bed milk tea".split()
    facts = tuple(Fact(word.title(), word) for word in words)
    concept = replace(tiny_concept, facts=facts)
    found = latent.probe_forgotten(tiny_model, concept, facts[10:], facts[:10])
    assert [one.name for one in found.measures] == ["probe_true"]
    assert found.measures[0].note == "chance about 0.08"


def test_lens_depth(tiny_model: LanguageModel, tiny_concept: Concept):
    table = logit_lens.depths(tiny_model, tiny_concept, tiny_concept.facts)["first_decodable"]
    share, *rest = latent.lens_depth(tiny_model, tiny_concept, tiny_concept.facts)
    assert share.value == pytest.approx(table.notna().mean())
    if table.notna().sum() >= 2:
        assert rest[0].value == pytest.approx(table.dropna().mean())
    else:
        assert rest == []
