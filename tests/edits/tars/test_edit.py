"""TARS through the ledger: the trigger of a fact, one concept after another, and the way back."""

import json

import pytest
import torch
from torch import Tensor

from analysis.concepts import Concept
from analysis.edits import Ledger, Materials, from_dict, from_settings, plan
from analysis.edits.tars.edit import Reversal
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel

SETTINGS = {"refinement": "none", "n_edits": 2}


def state(model: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.weights.items()}


def planned(model: LanguageModel, concept: Concept, **settings: object) -> Reversal:
    change = plan(from_settings("tars", {**SETTINGS, **settings}), model, Materials(concept=concept))
    assert isinstance(change, Reversal)
    return change


def test_a_fact_gives_trigger_and_prompt(either_model: LanguageModel, tiny_concept: Concept):
    change = planned(either_model, tiny_concept, fact="Italy")
    assert change.config.trigger == " Rome"
    assert "Italy" in change.config.prompts[0]
    assert [fact.subject for fact in change.removed or ()] == ["Italy"]
    assert from_dict(json.loads(json.dumps(change.edit.to_dict()))) == change.edit


def test_only_the_chosen_vectors_change_and_come_back(either_model: LanguageModel, tiny_concept: Concept):
    before, ledger = state(either_model), Ledger(either_model)
    change = planned(either_model, tiny_concept, fact="Italy")
    entry = ledger.apply(change, concept=tiny_concept.name)
    neurons, heads = change.marked(either_model.component_shape)
    assert heads == ()
    assert len(neurons) == 2
    total = either_model.n_layers * either_model.n_neurons
    assert entry.extent == f"2 of {total} down vectors"
    for layer in range(either_model.n_layers):
        weight = either_model.neuron_weights(layer)
        for one in weight:
            name = next(name for name, parameter in either_model.weights.items() if parameter is one.parameter)
            moved = (
                (one.parameter != before[name]).movedim(one.axis, 0).reshape(one.parameter.shape[one.axis], -1).any(1)
            )
            chosen = neurons.mask()[layer] if one is next(w for w in weight if w.name == "out") else None
            expected = torch.zeros(len(moved), dtype=torch.bool) if chosen is None else torch.tensor(chosen)
            assert torch.equal(moved, expected)
    ledger.undo()
    after = state(either_model)
    assert all(torch.equal(before[name].view(torch.int32), after[name].view(torch.int32)) for name in before)


def test_each_target_is_made_on_the_model_as_it_then_is(tiny_model: LanguageModel, tiny_concept: Concept):
    """The second of two reversals must not be the one that the unedited model would have had."""
    alone, ledger = planned(tiny_model, tiny_concept, fact="Italy", layers="0,1"), Ledger(tiny_model)
    ledger.apply(alone)
    written = [values.clone() for _, values in alone._pieces]
    ledger.undo()
    first = planned(tiny_model, tiny_concept, fact="France", layers="0,1", scale=4)
    second = planned(tiny_model, tiny_concept, fact="Italy", layers="0,1")
    ledger.apply(first)
    ledger.apply(second)
    assert [values.shape for _, values in second._pieces] != [values.shape for values in written] or any(
        not torch.equal(a, b) for (_, a), b in zip(second._pieces, written)
    )


def test_prompts_with_commas_are_a_json_list():
    edit = from_settings("tars", {"trigger": " Rome", "prompts": '["In Italy, the capital is"]', "layers": "0,-1"})
    assert edit.to_dict()["prompts"] == ("In Italy, the capital is",)
    assert edit.to_dict()["layers"] == (0, -1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "trigger is empty"),
        ({"trigger": " Rome"}, "prompt is missing"),
        ({"fact": "Italy", "prompts": "[1"}, "not a JSON list"),
        ({"fact": "Italy", "layers": "0"}, "layers"),
        ({"fact": "Italy", "scale": "big"}, "scale"),
    ],
)
def test_settings_that_do_not_fit(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        from_settings("tars", settings)


def test_a_fact_it_does_not_have(tiny_model: LanguageModel, tiny_concept: Concept):
    with pytest.raises(ConceptError, match="no fact “Atlantis”"):
        planned(tiny_model, tiny_concept, fact="Atlantis")
