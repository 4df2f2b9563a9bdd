"""Held weights stay exactly as the edit left them, confined training moves nothing but its circuit; the rest moves."""

import pytest
import torch
from torch import Tensor

from analysis.components.circuit import Circuit, Shape
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Ledger, PlannedEdit, WeightMask, circuit_slices
from analysis.errors import ConfigError, EditError
from analysis.models import LanguageModel
from tests.raw_model import raw


def train(model: LanguageModel, mask: WeightMask, concept: Concept, steps: int = 4) -> None:
    """AdamW with a strong decay: it moves every weight that it knows, whatever its gradient."""
    optimiser = torch.optim.AdamW(mask.parameters, lr=1e-2, weight_decay=0.5)
    rows = [model.encode(sentence.text).ids[:10] for sentence in concept.sentences]
    tokens = torch.tensor([row for row in rows if len(row) == 10])
    for _ in range(steps):
        optimiser.zero_grad()
        logits = model.logits(tokens)
        torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:]).backward()
        mask.mask_gradients()
        optimiser.step()
        mask.mask_update()


def planned(
    model: LanguageModel, edit: ComponentEdit, components: str = "L0.N3, L0.N40, L1.N0, L0.H1, L1.H2"
) -> PlannedEdit:
    circuit = Circuit.parse(components, model.component_shape)
    return PlannedEdit(edit=edit, shape=circuit.shape, neurons=circuit.neurons, heads=circuit.heads)


def state(model: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in raw(model).named_parameters()}


def test_held_weights_are_exactly_zero_after_training(either_model: LanguageModel, tiny_concept: Concept):
    ledger = Ledger(either_model)
    entry = ledger.apply(planned(either_model, ComponentEdit()))
    free = either_model.neuron_weights(0)[0].parameter.detach().clone()
    train(either_model, WeightMask(either_model, ledger.held()), tiny_concept)
    for piece in entry.slices:
        assert not piece.parameter.index_select(piece.axis, piece.indices).any()
    assert entry.current_hash() == entry.hash_after
    assert not torch.equal(free, either_model.neuron_weights(0)[0].parameter)


def test_momentum_from_before_the_hold_is_masked_too(tiny_model: LanguageModel, tiny_concept: Concept):
    """AdamW moves a weight with a zero gradient as long as it has momentum: the update itself must be masked."""
    ledger = Ledger(tiny_model)
    entry = ledger.apply(planned(tiny_model, ComponentEdit()))
    mask, piece = WeightMask(tiny_model, ledger.held()), entry.slices[0]
    optimiser = torch.optim.AdamW([piece.parameter], lr=0.1, weight_decay=0.5)
    piece.parameter.grad = torch.ones_like(piece.parameter)
    optimiser.step()
    assert piece.parameter.index_select(piece.axis, piece.indices).all()
    mask.mask_update()
    assert entry.current_hash() == entry.hash_after


def test_free_weights_grow_back(either_model: LanguageModel, tiny_concept: Concept):
    ledger = Ledger(either_model)
    entry = ledger.apply(planned(either_model, ComponentEdit(hold=False)))
    train(either_model, WeightMask(either_model, ledger.held()), tiny_concept)
    for piece in entry.slices:
        assert piece.parameter.index_select(piece.axis, piece.indices).abs().max() > 1e-3


def test_a_reversed_neuron_is_not_held(tiny_model: LanguageModel, tiny_concept: Concept):
    ledger = Ledger(tiny_model)
    entry = ledger.apply(planned(tiny_model, ComponentEdit(kind="reverse")))
    train(tiny_model, WeightMask(tiny_model, ledger.held()), tiny_concept)
    assert entry.current_hash() != entry.hash_after


def test_undone_edits_hold_nothing(tiny_model: LanguageModel):
    ledger = Ledger(tiny_model)
    ledger.apply(planned(tiny_model, ComponentEdit()))
    ledger.undo()
    weight = tiny_model.neuron_weights(0)[0].parameter
    mask = WeightMask(tiny_model, ledger.held())
    with torch.no_grad():
        weight.fill_(2.0)
    mask.mask_update()
    assert (weight == 2.0).all()


@pytest.mark.parametrize("kind", ["out", "in"])
def test_only_the_pruned_slices_are_masked(tiny_model: LanguageModel, kind: str):
    ledger = Ledger(tiny_model)
    ledger.apply(planned(tiny_model, ComponentEdit(), "L0.N3"))
    weight = next(weight for weight in tiny_model.neuron_weights(0) if weight.name == kind)
    weight.parameter.grad = torch.ones_like(weight.parameter)
    WeightMask(tiny_model, ledger.held()).mask_gradients()
    masked = weight.parameter.grad.select(weight.axis, 3)
    assert not masked.any()
    assert weight.parameter.grad.sum() == weight.parameter.numel() - masked.numel()


@pytest.mark.parametrize(
    "text", ["L0.N3, L1.N40", "L0.H1", "L1.MLP", "L0.H1, L0.H3, L1.H0, L0.N5, L1.MLP, L1.N2"], ids=lambda text: text
)
def test_confined_training_moves_the_circuit_and_nothing_else(
    either_model: LanguageModel, tiny_concept: Concept, text: str
):
    before, circuit = state(either_model), Circuit.parse(text, either_model.component_shape)
    with WeightMask(either_model, only=circuit) as mask:
        train(either_model, mask, tiny_concept)
    inside = {name: torch.zeros_like(values, dtype=torch.bool) for name, values in before.items()}
    names = {id(parameter): name for name, parameter in raw(either_model).named_parameters()}
    pieces = circuit_slices(either_model, circuit)
    for piece in pieces:
        inside[names[id(piece.parameter)]].index_fill_(piece.axis, piece.indices, True)
    for name, after in state(either_model).items():
        assert torch.equal(after[~inside[name]].view(torch.int32), before[name][~inside[name]].view(torch.int32))
        assert (after[inside[name]] != before[name][inside[name]]).all()
    assert sum(parameter.numel() for parameter in mask.parameters) == sum(piece.numel for piece in pieces)


def test_confined_training_takes_the_steps_of_free_training(tiny_model: LanguageModel, tiny_concept: Concept):
    """Without clipping AdamW treats each weight by itself: the first step inside is the one free training takes."""
    before = {name: values.clone() for name, values in state(tiny_model).items()}
    circuit = Circuit.parse("L0.H1, L1.N3, L2.MLP", tiny_model.component_shape)
    pieces = circuit_slices(tiny_model, circuit)
    with WeightMask(tiny_model) as mask:
        train(tiny_model, mask, tiny_concept, steps=1)
    expected = [piece.read() for piece in pieces]
    with torch.no_grad():
        for name, parameter in raw(tiny_model).named_parameters():
            parameter.copy_(before[name])
    with WeightMask(tiny_model, only=circuit) as mask:
        train(tiny_model, mask, tiny_concept, steps=1)
    for piece, values in zip(pieces, expected):
        torch.testing.assert_close(piece.read(), values)


def test_the_confinement_ends(tiny_model: LanguageModel, tiny_concept: Concept):
    parameters = list(raw(tiny_model).parameters())
    parameters[3].requires_grad_(False)
    with WeightMask(tiny_model, only=Circuit.parse("L1.N3", tiny_model.component_shape)) as mask:
        assert sum(parameter.requires_grad for parameter in parameters) == 3  # gate, in, out
        train(tiny_model, mask, tiny_concept, steps=1)
    assert [parameter.requires_grad for parameter in parameters] == [i != 3 for i in range(len(parameters))]
    assert all(parameter.grad is None for parameter in parameters)


def test_only_the_circuits_gradient_counts_in_the_norm(tiny_model: LanguageModel):
    circuit = Circuit.parse("L0.N3", tiny_model.component_shape)
    mask = WeightMask(tiny_model, only=circuit)
    for piece in circuit_slices(tiny_model, circuit):
        piece.parameter.grad = torch.full_like(piece.parameter, 100.0)
        piece.parameter.grad.index_fill_(piece.axis, piece.indices, 1.0)
    mask.mask_gradients()
    norm = torch.nn.utils.clip_grad_norm_(mask.parameters, 1e9)
    assert float(norm) == pytest.approx((3 * 32) ** 0.5)


def test_held_and_confined(either_model: LanguageModel, tiny_concept: Concept):
    """The pruned part of the circuit stays zero, the rest of it moves, and nothing outside does."""
    ledger = Ledger(either_model)
    entry = ledger.apply(planned(either_model, ComponentEdit(), "L0.N3, L0.H1"))
    before = state(either_model)
    only = Circuit.parse("L0.N3, L0.N4, L0.H1, L0.H2", either_model.component_shape)
    with WeightMask(either_model, ledger.held(), only) as mask:
        train(either_model, mask, tiny_concept)
    assert entry.current_hash() == entry.hash_after
    assert not any(piece.read().any() for piece in entry.slices)
    free = circuit_slices(either_model, Circuit.parse("L0.N4, L0.H2", either_model.component_shape))
    moved = sum(int((values != before[name]).sum()) for name, values in state(either_model).items())
    assert moved == sum(piece.numel for piece in free)


def test_nothing_left_to_train(tiny_model: LanguageModel):
    ledger = Ledger(tiny_model)
    ledger.apply(planned(tiny_model, ComponentEdit(), "L1.MLP"))
    circuit = Circuit.parse("L1.N3, L1.N7", tiny_model.component_shape)
    with pytest.raises(ConfigError, match="Nothing is left to train"):
        WeightMask(tiny_model, ledger.held(), circuit)
    assert all(parameter.requires_grad for parameter in raw(tiny_model).parameters())
    with pytest.raises(ConfigError, match="Nothing is left to train"):
        WeightMask(tiny_model, only=Circuit(shape=tiny_model.component_shape, components=()))


def test_confined_to_a_circuit_of_another_model(tiny_model: LanguageModel):
    with pytest.raises(EditError, match="2 layers"):
        WeightMask(tiny_model, only=Circuit.parse("L1.N1", Shape(2, 4, 64)))
