"""Causal saliency: which answers are asked for, what becomes of the effects, and every method on the smallest models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import models, saliency
from analysis.components.sites import HEADS, MLP, SITES, Site
from analysis.concepts import Concept
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.saliency import METHODS, attribution, causal
from analysis.scoring.contrast_pairs import answer_batches, pair_prompts
from analysis.scoring.factual_recall import known_facts
from tests.plain_transformers import Plain, log_p, variant
from tests.raw_model import raw
from tests.small_runs import made_up

GRADIENTS = ("gradient_x_activation", "integrated_gradients", "attribution_patching")


@pytest.mark.parametrize("site", SITES.values(), ids=SITES)
def test_scores_are_the_size_of_the_effects(either_model: LanguageModel, tiny_concept: Concept, site: Site):
    facts = tiny_concept.facts[:4]
    batches = answer_batches(either_model, tiny_concept, facts, max_examples=6, seed=2)
    pairs = pair_prompts(either_model, tiny_concept, facts, max_prompts=6, seed=2)
    expected = {
        "gradient_x_activation": attribution.gradient_x_activation(either_model, batches, site),
        "integrated_gradients": attribution.integrated_gradients(either_model, batches, site, steps=2),
        "attribution_patching": attribution.patching_effects(either_model, pairs, [site])[site.name],
    }
    for method, effects in expected.items():
        options = {"steps": 2} if method == "integrated_gradients" else {}
        found = causal.measure(
            either_model, tiny_concept, method, site=site, seed=2, facts=facts, max_examples=6, **options
        )
        np.testing.assert_array_equal(found.signed_LN, effects.mean_LN)
        np.testing.assert_array_equal(found.scores_LN, np.abs(effects.mean_LN))
        np.testing.assert_array_equal(found.standard_error_LN, effects.standard_error_LN)
        assert (found.concept, found.method, found.site) == ("tiny-capitals", method, site.name)
        assert (found.n_independent, found.provenance["examples"]) == (4, 6)
        assert found.provenance["seed"] == 2
        assert found.provenance.get("steps") == options.get("steps")
        assert list(found.layers) == (["completeness_error"] if options else [])


@pytest.mark.parametrize("site", SITES.values(), ids=SITES)
def test_ablation_of_named_units(either_model: LanguageModel, tiny_concept: Concept, site: Site):
    units = [(0, 2), (1, 1)]
    found = causal.ablation(either_model, tiny_concept, units, site=site, facts=tiny_concept.facts)
    effects = attribution.ablation(either_model, answer_batches(either_model, tiny_concept), units, site)
    np.testing.assert_array_equal(found.signed_LN, effects.mean_LN)
    assert found.n_measured == 2
    assert np.isfinite(found.p_values()).sum() == np.isfinite(found.q_values()).sum() == 2
    assert set(found.order[:2]) == {layer * found.scores_LN.shape[1] + unit for layer, unit in units}


def test_all_examples_ask_for_the_answer(tiny_model: LanguageModel, tiny_concept: Concept):
    """Tokens and answers are those of the statements; their probability is that of a plain model."""
    plain = Plain(tiny_model.source.path)
    stated = {text: start for fact in tiny_concept.facts for text, start in tiny_concept.statements(fact)}
    for batch in answer_batches(tiny_model, tiny_concept):
        with torch.no_grad():
            found = attribution.answer_log_p(tiny_model.logits(batch.tokens_BP), batch.tokens_BP, batch.answer_BP)
        for b, fact in enumerate(batch.facts):
            positions = batch.answer_BP[b].nonzero().flatten().tolist()
            ids = batch.tokens_BP[b, : positions[-1] + 1].tolist()
            text = plain.tokenizer.decode(ids)
            start = stated.pop(text)
            assert text[start:] == tiny_concept.facts[fact].answer
            assert plain.tokenizer.decode(ids[positions[0] :]).strip() == text[start:]
            assert float(found[b]) == pytest.approx(float(log_p(plain.run(ids)[0].detach(), ids, positions)), rel=1e-4)
    assert not stated


def test_examples_are_spread_over_facts(tiny_model: LanguageModel, tiny_concept: Concept):
    facts = [fact for batch in answer_batches(tiny_model, tiny_concept, max_examples=8) for fact in batch.facts]
    assert sorted(np.bincount(facts)) == [1, 1, 1, 1, 2, 2]


def test_a_concept_without_facts_is_asked_for_its_words(either_model: LanguageModel):
    concept = made_up(10)
    (found,) = saliency.measure(either_model, [concept], methods=["gradient_x_activation"])
    labelled = [sentence for sentence in concept.sentences if sentence.spans]
    assert (found.provenance["examples"], found.n_independent) == (len(labelled), len(labelled))
    with pytest.raises(ConceptError, match="has no facts that can be asked for"):
        saliency.measure(either_model, [concept], methods=["attribution_patching"])
    first_words = tuple(replace(sentence, spans=((0, 3),)) for sentence in concept.sentences)
    with pytest.raises(ConceptError, match="has a word before it"):
        causal.measure(either_model, replace(concept, sentences=first_words), "gradient_x_activation")


def taught(model: LanguageModel, concept: Concept) -> LanguageModel:
    """The model after it has learned the answers of the first three facts by heart."""
    optimizer = torch.optim.Adam(raw(model).parameters(), lr=6e-3)
    batches = answer_batches(model, concept, concept.facts[:3])
    for _ in range(40):
        optimizer.zero_grad()
        for batch in batches:
            found = attribution.answer_log_p(model.logits(batch.tokens_BP), batch.tokens_BP, batch.answer_BP)
            (-found.mean()).backward()
        optimizer.step()
    return model


def test_only_facts_that_the_model_knows_are_asked_for(tiny_model: LanguageModel, tiny_concept: Concept):
    for method in GRADIENTS:
        with pytest.raises(ConceptError, match="knows none of the 6 facts"):
            saliency.measure(tiny_model, [tiny_concept], methods=[method])
    with pytest.raises(ConceptError, match="knows none of the 6 facts"):
        causal.ablation(tiny_model, tiny_concept, [(0, 0)])
    model = taught(tiny_model, tiny_concept)
    known, _ = known_facts(model, tiny_concept)
    assert 2 <= len(known) < 6
    for found in saliency.measure(model, [tiny_concept], methods=GRADIENTS):
        given = causal.measure(model, tiny_concept, found.method, facts=known)
        np.testing.assert_array_equal(found.scores_LN, given.scores_LN)
        assert found.n_independent <= len(known)


def test_settings_that_a_method_does_not_have(tiny_model: LanguageModel, tiny_concept: Concept):
    facts = tiny_concept.facts
    for method in ("probeless", "ablation"):
        with pytest.raises(ConfigError, match="is no gradient method"):
            causal.measure(tiny_model, tiny_concept, method, facts=facts)
    with pytest.raises(TypeError, match="steps"):
        causal.measure(tiny_model, tiny_concept, "gradient_x_activation", facts=facts, steps=4)
    with pytest.raises(ConfigError, match="number of examples is 0"):
        causal.measure(tiny_model, tiny_concept, "gradient_x_activation", facts=facts, max_examples=0)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_every_method_works_on_a_model_of_one_layer(
    request: pytest.FixtureRequest, tmp_path: Path, tiny_concept: Concept, architecture: str
):
    folder = request.getfixturevalue({"llama": "tiny_folder", "gpt2": "tiny_gpt2_folder"}[architecture])
    model = models.load(str(variant(folder, tmp_path / "one", num_hidden_layers=1)), device="cpu")
    assert model.n_layers == 1
    for site in SITES.values():
        for method in METHODS:
            if site not in METHODS[method].sites:
                continue
            if method == "ablation":
                found = causal.ablation(model, tiny_concept, [(0, 1)], site=site, facts=tiny_concept.facts)
            elif method in GRADIENTS:
                found = causal.measure(model, tiny_concept, method, site=site, facts=tiny_concept.facts)
            else:
                (found,) = saliency.measure(model, [tiny_concept], methods=[method], site=site)
            assert found.scores_LN.shape == (1, {MLP: model.n_neurons, HEADS: model.n_heads}.get(site, model.d_model))
            assert found.n_measured == (1 if method == "ablation" else found.scores_LN.size)
