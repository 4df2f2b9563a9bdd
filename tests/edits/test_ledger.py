"""Edits in the weights: what they do, how they compare with the preview, and the exact way back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.components.circuit import Shape
from analysis.components.neurons import NeuronSet, hook_name
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Ledger, Materials, PlannedEdit, Selection, plan
from analysis.edits.components.preview import preview
from analysis.errors import EditError, UnsupportedArchitectureError
from analysis.models import LanguageModel
from analysis.scoring.batches import label_concepts
from tests.raw_model import bridge, raw
from tests.shared_models import same_bits

NEURONS = "L0.N3, L0.N40, L1.N0, L1.N47"
COMPONENTS = {
    "neurons": NEURONS,
    "heads": "L0.H1, L1.H0, L1.H3",
    "a whole MLP": "L1.MLP",
    "a mixture": "L0.H2, L0.N3, L1.H0, L1.MLP",
}
EDITS = {
    "zero, held": ComponentEdit(),
    "zero, free": ComponentEdit(hold=False),
    "mean, held": ComponentEdit(fill="mean"),
    "mean, free": ComponentEdit(fill="mean", hold=False),
    "reverse": ComponentEdit(kind="reverse"),
}


def planned(model: LanguageModel, concept: Concept, name: str, components: str = NEURONS) -> PlannedEdit:
    edit = replace(EDITS[name], selection=Selection(rule="explicit", components=components))
    return plan(edit, model, Materials(concept=concept))


def state(model: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in raw(model).named_parameters()}


@pytest.fixture
def tokens(tiny_concept: Concept):
    def encode(model: LanguageModel) -> Tensor:
        ids = [model.encode(sentence.text).ids[:10] for sentence in tiny_concept.sentences]
        return torch.tensor([row for row in ids if len(row) == 10])

    return encode


def logits(model: LanguageModel, tokens_BP: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.logits(tokens_BP)


@pytest.mark.parametrize("components", COMPONENTS.values(), ids=COMPONENTS)
@pytest.mark.parametrize("name", EDITS)
def test_preview_equals_the_applied_edit(
    either_model: LanguageModel, tiny_concept: Concept, tokens, name: str, components: str
):
    tokens_BP, edit = tokens(either_model), planned(either_model, tiny_concept, name, components)
    before, weights = logits(either_model, tokens_BP), state(either_model)
    with preview(either_model, edit):
        previewed = logits(either_model, tokens_BP)
    assert same_bits(state(either_model), weights)
    torch.testing.assert_close(logits(either_model, tokens_BP), before, rtol=0, atol=0)
    Ledger(either_model).apply(edit)
    applied = logits(either_model, tokens_BP)
    torch.testing.assert_close(applied, previewed, rtol=1e-4, atol=1e-5)
    assert (applied - before).abs().max() > 1e-2


@pytest.mark.parametrize("components", COMPONENTS.values(), ids=COMPONENTS)
@pytest.mark.parametrize("name", EDITS)
def test_edit_touches_its_components_and_nothing_else(
    either_model: LanguageModel, tiny_concept: Concept, name: str, components: str
):
    model, before = either_model, state(either_model)
    edit = planned(model, tiny_concept, name, components)
    Ledger(model).apply(edit)
    after = state(model)
    names = {id(parameter): key for key, parameter in raw(model).named_parameters()}
    for layer in range(model.n_layers):
        neurons = edit.neurons.by_layer().get(layer, np.array([], dtype=int)).tolist()
        heads = [h * model.d_head + z for l, h in edit.heads if l == layer for z in range(model.d_head)]
        for weights, chosen in ((model.neuron_weights(layer), neurons), (model.head_weights(layer), heads)):
            for weight in weights:
                key = names[id(weight.parameter)]
                mine = torch.zeros(weight.parameter.shape[weight.axis], dtype=torch.bool)
                mine[chosen] = True
                old, new = (values.pop(key).movedim(weight.axis, 0) for values in (before, after))
                assert torch.equal(old[~mine], new[~mine])
                if name == "reverse" and weight is weights[-1]:
                    assert torch.equal(new[mine], -old[mine])
                elif weight is weights[-1] or name.endswith("held"):
                    assert not new[mine].any()
                else:
                    assert torch.equal(new[mine], old[mine])
        attention = bridge(model).blocks[layer].attn.o.original_component
        for module, chosen in ((model.blocks[layer].mlp_output, neurons), (attention, heads)):
            if name.startswith("mean") and chosen:
                key = names[id(module.bias)]
                assert not torch.equal(after.pop(key), before.pop(key, torch.zeros(model.d_model)))
    assert same_bits(before, after)


def test_a_pruned_head_writes_nothing_and_a_reversed_one_the_opposite(
    either_model: LanguageModel, tiny_concept: Concept, tokens
):
    """Seen from outside: what the attention layer writes, against the sum over heads computed by hand."""
    model, tokens_BP, seen = either_model, tokens(either_model), {}
    ledger = Ledger(model)
    hooks = [
        ("blocks.0.attn.hook_z", lambda value, hook: seen.update(z=value)),
        ("blocks.0.hook_attn_out", lambda value, hook: seen.update(out=value)),
    ]
    with model.hooks(hooks):
        logits(model, tokens_BP)
    z_BPHZ = seen["z"].clone()
    linear = bridge(model).blocks[0].attn.o.original_component
    matrix = linear.weight.detach().clone() if type(linear).__name__ == "Conv1D" else linear.weight.detach().T.clone()
    heads_HZD = matrix.reshape(model.n_heads, model.d_head, -1)
    bias = 0 if linear.bias is None else linear.bias.detach().clone()
    written = torch.einsum("bphz,hzd->bphd", z_BPHZ, heads_HZD)
    torch.testing.assert_close(seen["out"], written.sum(2) + bias, rtol=1e-4, atol=1e-5)
    ledger.apply(planned(model, tiny_concept, "zero, held", "L0.H1"))
    ledger.apply(planned(model, tiny_concept, "reverse", "L0.H2"))
    with model.hooks(hooks):
        logits(model, tokens_BP)
    signs = torch.tensor([1.0, 0.0, -1.0, 1.0])[:, None]
    expected = (written * signs).sum(2) + bias
    torch.testing.assert_close(seen["out"], expected, rtol=1e-4, atol=1e-5)


def test_a_pruned_mlp_layer_writes_a_constant(either_model: LanguageModel, tiny_concept: Concept, tokens):
    model, seen = either_model, []
    Ledger(model).apply(planned(model, tiny_concept, "zero, held", "L1.MLP"))
    with model.hooks([("blocks.1.hook_mlp_out", lambda output, hook: seen.append(output))]):
        logits(model, tokens(model))
    bias = model.blocks[1].mlp_output.bias
    assert torch.equal(seen[0], torch.zeros_like(seen[0]) + (0 if bias is None else bias.detach()))


def test_a_pruned_neuron_is_silent_and_a_reversed_one_is_not(tiny_model: LanguageModel, tiny_concept: Concept, tokens):
    tokens_BP, seen = tokens(tiny_model), []
    ledger = Ledger(tiny_model)
    ledger.apply(planned(tiny_model, tiny_concept, "zero, held", "L1.N5"))
    ledger.apply(planned(tiny_model, tiny_concept, "reverse", "L1.N6"))
    with tiny_model.hooks([(hook_name(1), lambda activation, hook: seen.append(activation))]):
        logits(tiny_model, tokens_BP)
    assert not seen[0][..., 5].any()
    assert seen[0][..., 6].any()


@pytest.mark.parametrize(("components", "output"), [("L0.N3, L0.N40", "mlp_out"), ("L0.H0, L0.H3", "attn_out")])
def test_mean_ablation_keeps_the_mean_output(
    either_model: LanguageModel, tiny_concept: Concept, components: str, output: str
):
    """Over the text the means come from, the layer's mean output stays, and so only its variation is lost."""
    model = either_model
    text = label_concepts(model, [tiny_concept], tokens_per_batch=4096)
    (batch,) = text.batches
    counted = batch.weights_GBP.sum(0).bool()

    def outputs() -> Tensor:
        seen = []
        with model.hooks([(f"blocks.0.hook_{output}", lambda output, hook: seen.append(output))]):
            model.residual(batch.tokens_BP)
        return seen[0][counted]

    with torch.inference_mode():
        before = outputs()
        Ledger(model).apply(planned(model, tiny_concept, "mean, held", components))
        after = outputs()
    torch.testing.assert_close(after.mean(0), before.mean(0), rtol=1e-4, atol=1e-5)
    assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize("components", COMPONENTS.values(), ids=COMPONENTS)
@pytest.mark.parametrize("name", EDITS)
def test_undo_restores_every_bit(either_model: LanguageModel, tiny_concept: Concept, name: str, components: str):
    before, ledger = state(either_model), Ledger(either_model)
    entry = ledger.apply(planned(either_model, tiny_concept, name, components))
    assert entry.current_hash() == entry.hash_after != entry.hash_before
    assert not same_bits(state(either_model), before)
    assert ledger.undo() is entry
    assert same_bits(state(either_model), before)
    assert entry.current_hash() == entry.hash_before
    assert ledger.entries == ()


def test_undo_of_stacked_edits_that_overlap(either_model: LanguageModel, tiny_concept: Concept):
    ledger, states = Ledger(either_model), [state(either_model)]
    for name, components in (
        ("reverse", "L0.N3, L1.N0, L0.H1"),
        ("mean, held", "L0.N3, L0.N9, L0.H1, L0.H2"),
        ("mean, free", "L0.N9, L1.MLP"),
        ("reverse", "L0.N3, L0.N10, L0.H1, L1.H0"),
        ("zero, held", "L0.N10, L0.N3, L0.H1"),
    ):
        ledger.apply(planned(either_model, tiny_concept, name, components))
        states.append(state(either_model))
    assert len(ledger.entries) == 5
    for left in (4, 3):
        ledger.undo()
        assert same_bits(state(either_model), states[left])
    ledger.undo_to(1)
    assert same_bits(state(either_model), states[1])
    ledger.undo_to(0)
    assert same_bits(state(either_model), states[0])
    assert ledger.entries == ()


def test_undo_restores_a_negative_zero(tiny_model: LanguageModel, tiny_concept: Concept):
    with torch.no_grad():
        tiny_model.neuron_weights(0)[-1].parameter[:, 3] = -0.0
    before, ledger = state(tiny_model), Ledger(tiny_model)
    ledger.apply(planned(tiny_model, tiny_concept, "zero, held"))
    ledger.undo()
    assert same_bits(state(tiny_model), before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_undo_in_half_precision(tiny_folder, tiny_concept: Concept, dtype: str):
    from analysis.models import load

    model = load(str(tiny_folder), device="cpu", dtype=dtype)
    before, ledger = state(model), Ledger(model)
    ledger.apply(planned(model, tiny_concept, "mean, held", COMPONENTS["a mixture"]))
    ledger.undo()
    after = state(model)
    assert all(torch.equal(before[name].view(torch.int16), after[name].view(torch.int16)) for name in before)


@pytest.mark.parametrize("components", [NEURONS, "L0.H1"])
@pytest.mark.parametrize("name", ["zero, held", "mean, held", "reverse"])
def test_undo_is_refused_after_an_outside_change(
    either_model: LanguageModel, tiny_concept: Concept, name: str, components: str
):
    ledger = Ledger(either_model)
    entry = ledger.apply(planned(either_model, tiny_concept, name, components))
    with torch.no_grad():
        entry.slices[0].parameter.index_fill_(entry.slices[0].axis, entry.slices[0].indices[:1], 0.5)
    changed = state(either_model)
    with pytest.raises(EditError, match="changed after the edit"):
        ledger.undo()
    assert same_bits(state(either_model), changed)
    assert ledger.entries == (entry,)


def test_a_change_elsewhere_does_not_prevent_undo(tiny_model: LanguageModel, tiny_concept: Concept):
    ledger = Ledger(tiny_model)
    ledger.apply(planned(tiny_model, tiny_concept, "zero, held"))
    with torch.no_grad():
        tiny_model.neuron_weights(2)[0].parameter.add_(1)
    changed = state(tiny_model)
    ledger.undo()
    assert not same_bits(state(tiny_model), changed)


def test_nothing_to_undo(tiny_model: LanguageModel):
    with pytest.raises(EditError, match="no edit to undo"):
        Ledger(tiny_model).undo()


def test_an_edit_for_another_shape(tiny_model: LanguageModel):
    shape = Shape(2, 4, 64)
    edit = PlannedEdit(edit=ComponentEdit(), shape=shape, neurons=NeuronSet([1], shape.neurons))
    with pytest.raises(EditError, match=r"2 layers with 4 heads and 64 neurons each.*has 3 with 4 and 48"):
        Ledger(tiny_model).apply(edit)
    with pytest.raises(EditError, match="2 layers"), preview(tiny_model, edit):
        pass


def test_a_model_without_heads_of_its_own_is_left_alone(
    tiny_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    edit = planned(tiny_model, tiny_concept, "zero, held", "L0.N1, L1.H0")
    linear = bridge(tiny_model).blocks[1].attn.o.original_component
    monkeypatch.setattr(linear, "weight", torch.nn.Parameter(torch.ones(32, 30)))
    before, ledger = state(tiny_model), Ledger(tiny_model)
    with pytest.raises(UnsupportedArchitectureError, match="heads cannot be edited"):
        ledger.apply(edit)
    assert same_bits(state(tiny_model), before)
    assert ledger.entries == ()


def test_the_number_of_weights_touched(tiny_model: LanguageModel, tiny_gpt2: LanguageModel, tiny_concept: Concept):
    ledger = Ledger(tiny_model)
    assert ledger.apply(planned(tiny_model, tiny_concept, "zero, held")).n_weights == 4 * 3 * 32
    assert ledger.apply(planned(tiny_model, tiny_concept, "reverse")).n_weights == 4 * 32
    # grouped-query attention: a head's queries and its output; keys and values are shared
    assert ledger.apply(planned(tiny_model, tiny_concept, "zero, held", "L2.H1")).n_weights == 2 * 8 * 32
    # fused queries, keys and values: the output alone
    assert Ledger(tiny_gpt2).apply(planned(tiny_gpt2, tiny_concept, "zero, held", "L1.H1")).n_weights == 8 * 32


def test_digests_depend_on_the_weights_only(tiny_model: LanguageModel, tiny_concept: Concept):
    ledger, edit = Ledger(tiny_model), planned(tiny_model, tiny_concept, "zero, held")
    first = ledger.apply(edit)
    ledger.undo()
    second = ledger.apply(edit)
    assert (first.hash_before, first.hash_after) == (second.hash_before, second.hash_after)
    other = planned(tiny_model, tiny_concept, "zero, held", "L2.N1, L2.N2, L2.N3, L2.N4")
    third = ledger.apply(other)
    assert third.hash_before != first.hash_before
    assert third.hash_after == first.hash_after  # both are all zeros, of the same shape
