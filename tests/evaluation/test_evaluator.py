"""The whole evaluation: a baseline, an edit, what changed and what did not, what is left out and why."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.concepts import Concept, Fact, Translation
from analysis.errors import ConceptError, ConfigError, ModelFileError
from analysis.evaluation import (
    ALL,
    PARTS,
    QUICK,
    Baseline,
    Evaluation,
    GeneralText,
    baseline,
    compare,
    evaluate,
    parts_of,
)
from analysis.evaluation.choice import injected_questions, questions
from analysis.models import LanguageModel
from analysis.scoring import factual_recall
from tests.raw_model import raw

TEXT = GeneralText(
    ("The kettle had been whistling.", "My brother keeps his tools in a box.", "Nobody told us."), ("own",) * 3
)
CHEAP = [name for name in ALL if name not in ("relearning", "soft_prompts")]


@pytest.fixture
def concept(tiny_concept: Concept) -> Concept:
    return replace(
        tiny_concept,
        reverse=("{answer} is in",),
        translations=(Translation(language="German", templates=("Die Hauptstadt von {subject} ist",)),),
    )


def prepared(
    model: LanguageModel, concept: Concept, what: object = "quick", facts: object = None, **options
) -> Baseline:
    return baseline(model, concept, facts, what=what, text=TEXT, threshold=0.0, **options)


def wreck(model: LanguageModel) -> None:
    """Every prediction becomes certain, and most are wrong."""
    with torch.no_grad():
        raw(model).model.norm.weight.mul_(20)


def test_parts():
    assert parts_of("quick") == QUICK
    assert parts_of("all") == ALL == tuple(PARTS)
    assert parts_of("kl") == ("neutral_perplexity", "kl")
    assert parts_of(["relearning", "forget"]) == ("neutral_perplexity", "forget", "relearning")
    with pytest.raises(ConfigError, match="“forgetting” is not a part"):
        parts_of(["forgetting"])


def test_part_of_a_concept_is_forgotten(tiny_model: LanguageModel, concept: Concept):
    forgotten = concept.facts[:2]
    base = prepared(tiny_model, concept, CHEAP, forgotten)
    assert {fact.subject for fact in base.neighbours["tiny-capitals"]} == {fact.subject for fact in concept.facts[2:]}
    own = base.evaluation
    assert own.label == "base"
    p = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, concept))
    assert own.value("forget") == pytest.approx(p[:2].mean(), rel=1e-4)
    assert own.value("neighbours") == pytest.approx(p[2:].mean(), rel=1e-4)
    assert own.value("language: German") is not None
    assert "KL is measured from" in own.skipped["kl"]
    assert "it needs 10" in own.skipped["probes"]
    assert [one[:2] for one in own.facts] == [("France", "Paris"), ("Italy", "Rome")]

    again = evaluate(tiny_model, concept, forgotten, base=base, what=CHEAP, label="again")
    for one in own.measures:
        assert again.get(one.name) == one
    assert again.value("kl_median") == pytest.approx(0, abs=1e-9)
    assert again.warning is None
    assert again.histogram is not None
    assert (
        again.summary()["kl"]["n_tokens"]
        == base.reference.n_tokens
        == sum(len(tiny_model.encode(t)) for t in TEXT.texts)
    )
    assert again.provenance["text"] == "3 own"
    assert Evaluation.from_dict(json.loads(json.dumps(again.to_dict()))) == again
    assert list(compare([own, again]).columns)[::4] == ["base", "again"]


def test_what_the_model_says_is_kept_with_its_probabilities(tiny_model: LanguageModel, concept: Concept):
    found = prepared(tiny_model, concept, ["generations"], concept.facts[:3]).evaluation
    assert [one.about for one in found.generations] == ["forgotten", "forgotten", "kept", "ordinary"]
    assert [one.prompt for one in found.generations[:2]] == ["The capital of France is", "The capital of Italy is"]
    first = found.generations[0]
    ids = torch.tensor([tiny_model.encode(first.prompt).ids])
    with torch.no_grad():
        p = tiny_model.logits(ids)[0, -1].double().softmax(-1)
    assert first.tokens[0] == (tiny_model.decode([int(p.argmax())]), pytest.approx(float(p.max()), rel=1e-4))
    assert Evaluation.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_new_answers_are_asked_for_like_old_ones(tiny_model: LanguageModel, concept: Concept):
    taught = tuple(replace(fact, answer="Oslo") for fact in concept.facts[:2])
    base = prepared(tiny_model, concept, ["injected"], concept.facts[:2], injected=taught)
    p = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, concept, taught))
    assert base.evaluation.value("injected") == pytest.approx(p.mean(), rel=1e-4)
    assert {"injected_paraphrase", "injected_choice"} <= {one.name for one in base.evaluation.measures}
    again = evaluate(
        tiny_model, concept, base=Baseline.from_dict(json.loads(json.dumps(base.to_dict()))), what="injected"
    )
    assert again.get("injected") == base.evaluation.get("injected")
    for question in injected_questions(concept, taught):
        assert question.options[question.right] == "Oslo"
        assert {"France": "Paris", "Italy": "Rome"}[question.fact.subject] in question.options
        assert len(set(question.options)) == len(question.options)


def test_a_wrecked_model_is_no_success(tiny_model: LanguageModel, concept: Concept):
    base = prepared(tiny_model, concept)
    wreck(tiny_model)
    found = evaluate(tiny_model, concept, base=base)
    assert found.value("neutral_perplexity") > 2 * base.evaluation.value("neutral_perplexity")
    assert found.collapsed
    assert "wrecked" in found.summary()["warning"]
    assert evaluate(tiny_model, concept, base=base, what=["forget"]).collapsed  # whatever is asked
    assert "edited (collapsed)" in compare([base.evaluation, found]).columns


def test_summary_has_numbers_for_the_command_line(tiny_model: LanguageModel, concept: Concept):
    base = prepared(tiny_model, concept, facts=concept.facts[:3])
    summary = evaluate(tiny_model, concept, base=base).summary()
    assert all(
        type(summary[key]) is float
        for key in ("forget", "paraphrase", "multiple_choice", "neighbours", "neutral_perplexity")
    )
    assert set(summary["kl"]) == {"median", "mean", "p95", "n_tokens"}
    json.dumps(summary)


def test_a_baseline_of_another_folder_or_concept_of_the_same_name(tiny_model: LanguageModel, concept: Concept):
    base = prepared(tiny_model, concept, ["forget"])
    with pytest.raises(ConfigError, match="which has the same name"):
        evaluate(tiny_model, concept, base=replace(base, source="/elsewhere/final"), what=["forget"])
    other = replace(concept, paraphrases=("Visitors of {subject} see",))
    with pytest.raises(ConfigError, match="has changed since the baseline was measured"):
        evaluate(tiny_model, other, base=base, what=["forget"])
    of_an_earlier_version = replace(base, source="", concept_digest="")
    assert evaluate(tiny_model, other, base=of_an_earlier_version, what=["forget"]).value("forget") is not None


def test_a_baseline_survives_json(tiny_model: LanguageModel, concept: Concept):
    for base in (prepared(tiny_model, concept, CHEAP, concept.facts[:2]), prepared(tiny_model, concept, ["forget"])):
        assert Baseline.from_dict(json.loads(json.dumps(base.to_dict()))) == base
    with pytest.raises(ConfigError, match="not the baseline"):
        Baseline.from_dict({"facts": [{}]})
    with pytest.raises(ConfigError, match="not the baseline"):
        Baseline.from_dict(base.to_dict() | {"colour": 1})


def test_the_whole_concept_is_forgotten(tiny_model: LanguageModel, concept: Concept):
    base = prepared(tiny_model, concept, ["neighbours", "other_concepts"])
    assert list(base.neighbours) == ["capitals", "athletes", "months", "colours"]
    assert base.others == {}
    assert base.evaluation.get("neighbours").n == 16 + 16 + 12 + 16
    assert "other concepts already" in base.evaluation.skipped["other_concepts"]


def test_attacks_run_and_restore(tiny_model: LanguageModel, concept: Concept):
    before = [parameter.detach().clone() for parameter in raw(tiny_model).parameters()]
    attack = ["quantization", "soft_prompts", "relearning"]
    base = prepared(tiny_model, concept, attack)
    names = {one.name for one in base.evaluation.measures}
    assert names == {
        "neutral_perplexity", "quantized_8bit", "quantized_4bit", "soft_prompt_held_out", "soft_prompt_trained",
        "relearned_held_out", "relearned_trained",
    }  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(before, raw(tiny_model).parameters()))
    alone = prepared(tiny_model, concept, attack, concept.facts[:1]).evaluation
    assert "at least two facts" in alone.skipped["relearning"]
    assert "at least two facts" in alone.skipped["soft_prompts"]
    assert alone.get("quantized_8bit").n == 1


def test_what_is_missing_says_why(tiny_model: LanguageModel, tiny_concept: Concept):
    bare = replace(tiny_concept, paraphrases=(), facts=tiny_concept.facts[:1])
    base = prepared(tiny_model, bare, [name for name in CHEAP if name != "neighbours"])
    skipped = base.evaluation.skipped
    assert "no paraphrases" in skipped["paraphrase"]
    assert "no wrong answers" in skipped["multiple_choice"]
    assert "no reverse prompts" in skipped["reverse"]
    assert "no translations" in skipped["languages"]
    assert base.evaluation.get("forget").n == 1
    assert (base.evaluation.get("forget").low, base.evaluation.get("forget").high) == (0.0, 1.0)
    later = evaluate(tiny_model, bare, base=prepared(tiny_model, bare, ["forget"]), what=["forget", "kl", "languages"])
    assert set(later.skipped) == {"kl", "languages"}
    assert "Measure it again with this part" in later.skipped["kl"]


def test_nothing_is_known(tiny_model: LanguageModel, concept: Concept, tiny_shapes: Concept):
    with pytest.raises(ConceptError, match="knows none of the 6 facts of “tiny-capitals”"):
        baseline(tiny_model, concept, threshold=0.999)
    assert baseline(tiny_model, tiny_shapes, what=["forget"]).facts == ()  # there is none to know


def test_without_a_baseline_the_model_is_its_own(tiny_model: LanguageModel, concept: Concept):
    found = evaluate(tiny_model, concept, concept.facts[:2], what=["forget"], label="mine")
    assert found.label == "mine"
    assert found.warning is None
    assert found.get("forget").n == 2


def test_a_baseline_of_something_else(tiny_model: LanguageModel, concept: Concept):
    base = prepared(tiny_model, concept, ["forget"], concept.facts[:2])
    with pytest.raises(ConfigError, match="these 1 are others"):
        evaluate(tiny_model, concept, concept.facts[2:3], base=base)
    with pytest.raises(ConfigError, match="is of “tiny-capitals”"):
        evaluate(tiny_model, replace(concept, name="other"), base=base)


def test_stopping_and_progress(tiny_model: LanguageModel, concept: Concept):
    base, seen = prepared(tiny_model, concept), []
    asked = iter([False, False, True])
    found = evaluate(
        tiny_model,
        concept,
        base=base,
        progress=lambda what, share: seen.append((what, share)),
        should_stop=lambda: next(asked),
    )
    assert [one.name for one in found.measures] == ["neutral_perplexity", "forget"]
    assert set(found.skipped) == set(QUICK[2:])
    assert seen == [("Measuring neutral perplexity", 0.0), ("Measuring forget", pytest.approx(1 / len(QUICK)))]


def test_a_broken_model_is_an_error_and_no_number(tiny_model: LanguageModel, concept: Concept):
    base = prepared(tiny_model, concept)
    with torch.no_grad():
        tiny_model.blocks[0].mlp_output.weight.fill_(float("nan"))
    with pytest.raises(ModelFileError, match="not finite"):
        evaluate(tiny_model, concept, base=base)


@pytest.mark.slow_model
def test_the_default_model(default_model: LanguageModel):
    """Numbers make sense: it knows what it is asked, and its own weights are at no distance."""
    from analysis import concepts

    capitals = concepts.load("capitals")
    facts = [
        fact for fact in capitals.facts if fact.subject in ("France", "Japan", "Italy", "Spain", "Russia", "Egypt")
    ]
    others = [fact for fact in capitals.facts if fact not in facts]
    capitals = replace(capitals, facts=(*facts, *others[:8]))  # what is known of all of them takes ten seconds
    what = ["forget", "multiple_choice", "memorization", "truth_ratio", "kl"]
    base = baseline(default_model, capitals, facts, what=what, text=TEXT)
    assert base.evaluation.value("forget") > 0.5
    assert base.evaluation.value("multiple_choice") > 0.8
    assert base.evaluation.value("truth_ratio") < 0.1
    again = evaluate(default_model, capitals, base=base, what=["kl"])
    assert again.value("kl_p95") < 1e-9
    assert np.isclose(again.value("neutral_perplexity"), base.evaluation.value("neutral_perplexity"))


def test_facts_with_templates_of_their_own(tiny_model: LanguageModel, concept: Concept):
    own = (*concept.facts[:3], Fact("Peru", "Lima", templates=("Of {subject}:",)))
    base = prepared(tiny_model, replace(concept, facts=own), ["forget", "multiple_choice", "neighbours"], own[:2])
    assert {fact.templates for fact in base.neighbours["tiny-capitals"]} == {concept.templates, ("Of {subject}:",)}


def test_every_part_is_documented():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert [name for name in PARTS if f"`{name}`" not in text] == []


def test_a_facts_own_choices_are_offered(concept: Concept):
    own = tuple(replace(fact, choices=("Malmo", "Oslo", "Kyiv", "Bern", "Riga")) for fact in concept.facts[:2])
    for question in questions(concept, own):
        wrong = {option for i, option in enumerate(question.options) if i != question.right}
        assert len(wrong) == 3
        assert wrong <= {"Malmo", "Oslo", "Kyiv", "Bern", "Riga"}
        assert question.options[question.right] == question.fact.answer


def test_an_alias_is_never_a_wrong_choice(concept: Concept):
    fact, *others = concept.facts
    alias = others[0].answer
    known = replace(concept, facts=(replace(fact, aliases=(alias,)), *others))
    drawn = [questions(known, known.facts[:1], seed=seed)[0].options for seed in range(20)]
    assert all(alias not in options for options in drawn)
    assert any(alias in questions(concept, [fact], seed=seed)[0].options for seed in range(20))
