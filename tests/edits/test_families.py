"""Edits, undo, replay and export on families that store projections fused: all that is listed is what the model runs with."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from analysis.components.neurons import hook_name
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Ledger, Materials, Selection, from_settings, plan
from analysis.edits.gradient.objectives.gradient_ascent import GradientAscent
from analysis.models import LanguageModel
from analysis.models.copying import copy_model
from analysis.models.export import export
from tests.shared_models import same_bits, state
from tests.tiny_families import FUSED, LOADABLE, tiny_family

TEXT = "The capital of France is Paris"
GATED = ("glm", "glm4", "phi3")


@pytest.fixture
def family(tmp_path: Path, tokenizer) -> Callable[[str], LanguageModel]:
    return lambda name: tiny_family(name, tokenizer, tmp_path)


def logits(model: LanguageModel) -> Tensor:
    with torch.inference_mode():
        return model.logits(torch.tensor([model.encode(TEXT).ids]))


def plain_logits(folder: Path, model: LanguageModel) -> Tensor:
    plain = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    with torch.inference_mode():
        return plain(torch.tensor([model.encode(TEXT).ids])).logits


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("rank", [0, 4], ids=["whole", "lora"])
def test_a_gradient_edit_is_undone_replayed_and_exported(
    family: Callable[[str], LanguageModel], materials: Materials, tmp_path: Path, name: str, rank: int
):
    model = family(name)
    before, weights = logits(model), state(model)
    edit = GradientAscent(
        steps=3, batch_size=4, learning_rate=1e-2, forget_count=1, precision="float32", lora_rank=rank
    )
    ledger = Ledger(model, tmp_path / "ledger")
    ledger.apply(plan(edit, model, materials))
    after = logits(model)
    assert (after - before).std() > 0.02 * before.std()
    torch.testing.assert_close(
        plain_logits(export(model, tmp_path / "out"), model), after, rtol=0, atol=1e-4 * float(after.std())
    )
    assert torch.equal(logits(copy_model(model)), after)
    again = family(name)
    Ledger(again, tmp_path / "again").replay(tmp_path / "ledger" / "0000.safetensors")
    assert torch.equal(logits(again), after)
    ledger.undo()
    assert torch.equal(logits(model), before)
    assert same_bits(weights, state(model))


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_a_pruned_neuron_is_undone_replayed_and_exported(
    family: Callable[[str], LanguageModel], tiny_concept: Concept, tmp_path: Path, name: str, fill
):
    model = family(name)
    before, weights = logits(model), state(model)
    edit = ComponentEdit(selection=Selection(rule="explicit", components="L0.N3, L1.H1"), fill=fill)
    ledger = Ledger(model, tmp_path / "ledger")
    ledger.apply(plan(edit, model, Materials(concept=tiny_concept)))
    for weight in model.neuron_weights(0):
        assert not weight.parameter.select(weight.axis, 3).any()
    after = logits(model)
    assert not torch.equal(after, before)
    again = family(name)
    Ledger(again, tmp_path / "again").replay(tmp_path / "ledger" / "0000.safetensors")
    assert torch.equal(logits(again), after)
    if fill == "zero":
        exported = plain_logits(export(model, tmp_path / "out"), model)
        torch.testing.assert_close(exported, after, rtol=0, atol=1e-4 * float(after.std()))
    ledger.undo()
    assert torch.equal(logits(model), before)
    assert same_bits(weights, state(model))


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("matrix", ["gate", "up", "down"])
def test_rows_are_reversed_where_gate_and_up_are_one_weight(
    family: Callable[[str], LanguageModel], tiny_concept: Concept, tmp_path: Path, name: str, matrix: str
):
    model = family(name)
    before, weights = logits(model), state(model)
    settings = {"refinement": "none", "n_edits": 2, "fact": "Italy", "matrices": matrix}
    ledger = Ledger(model, tmp_path / "ledger")
    change = plan(from_settings("tars", settings), model, Materials(concept=tiny_concept))
    ledger.apply(change)
    after = logits(model)
    assert not torch.equal(after, before)
    again = family(name)
    Ledger(again, tmp_path / "again").replay(tmp_path / "ledger" / "0000.safetensors")
    assert torch.equal(logits(again), after)
    ledger.undo()
    assert same_bits(weights, state(model))


@pytest.mark.parametrize("name", LOADABLE)
@pytest.mark.parametrize("component", ["L1.H2", "L1.N5"])
def test_pruning_leaves_the_other_heads_and_neurons_of_the_layer_as_they_are(
    family: Callable[[str], LanguageModel], tiny_concept: Concept, name: str, component: str
):
    """A component pruned by its weights is a component silenced at its hook: nothing else in the layer moves."""
    model = family(name)
    head, unit = component[3] == "H", int(component[4:])
    at = "blocks.1.attn.hook_z" if head else hook_name(1)

    def measured(*functions: tuple[str, Callable]) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        with model.hooks([(at, lambda activation, hook: seen.append(activation.clone())), *functions]):
            found = logits(model)
        return seen[0], found

    def silence(activation: Tensor, hook: object) -> Tensor:
        changed = activation.clone()
        changed.view(*changed.shape[:2], model.n_heads if head else model.n_neurons, -1)[:, :, unit] = 0
        return changed

    activations, before = measured()
    _, expected = measured((at, silence))
    edit = ComponentEdit(selection=Selection(rule="explicit", components=component))
    Ledger(model).apply(plan(edit, model, Materials(concept=tiny_concept)))
    after, found = measured()
    shape = (*activations.shape[:2], model.n_heads if head else model.n_neurons, -1)
    others = [other for other in range(shape[2]) if other != unit]
    assert torch.equal(after.reshape(shape)[:, :, others], activations.reshape(shape)[:, :, others])
    assert not torch.equal(found, before)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(before.std()))
