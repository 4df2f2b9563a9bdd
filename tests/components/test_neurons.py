"""Names of neurons and sets of them."""

import numpy as np
import pytest

from analysis.components.neurons import Neuron, NeuronSet, hook_name
from analysis.errors import EditError

SHAPE = (4, 100)


@pytest.mark.parametrize(
    ("text", "flat"),
    [
        ("", []),
        ("L0.N0", [0]),
        ("L3.N99, L1.N7", [107, 399]),
        ("l1.n7;L1.N7 L1.N8\nL2.N0,", [107, 108, 200]),
        ("blocks.2.mlp.hook_post[5]", [205]),
        ("blocks.2.mlp.hook_post.5, L2.N6", [205, 206]),
    ],
)
def test_parse(text: str, flat: list[int]):
    assert NeuronSet.parse(text, SHAPE).flat.tolist() == flat


@pytest.mark.parametrize("flat", [[], [0], [399], [5, 107, 250, 399]])
def test_format_is_what_parse_reads(flat: list[int]):
    neurons = NeuronSet(flat, SHAPE)
    assert NeuronSet.parse(neurons.format(), SHAPE) == neurons
    assert NeuronSet.parse(", ".join(neuron.hook for neuron in neurons), SHAPE) == neurons


def test_format():
    assert NeuronSet([107, 3], SHAPE).format() == "L0.N3, L1.N7"


@pytest.mark.parametrize(
    "text",
    ["L1", "L1.N", "N1.L1", "L-1.N2", "L1.N2.5", "L1N2", "5", "blocks.1.mlp.hook_post", "blocks.1.attn.hook_z[1]"],
)
def test_what_is_no_neuron(text: str):
    with pytest.raises(EditError, match=r"is not a neuron\. Write L5\.N123"):
        NeuronSet.parse(f"L0.N0, {text}", SHAPE)


@pytest.mark.parametrize("text", ["L4.N0", "L0.N100", "blocks.4.mlp.hook_post[0]", f"L{10**30}.N0"])
def test_outside_the_model(text: str):
    with pytest.raises(EditError, match="layers are 0 to 3, neurons 0 to 99"):
        NeuronSet.parse(text, SHAPE)


@pytest.mark.parametrize("flat", [[-1], [400], [0, 10**9]])
def test_flat_indices_outside_the_model(flat: list[int]):
    with pytest.raises(EditError, match="4 layers of 100 neurons"):
        NeuronSet(flat, SHAPE)


def test_views_of_a_set():
    neurons = NeuronSet([107, 3, 107, 101], SHAPE)
    assert len(neurons) == 3
    assert list(neurons) == [Neuron(0, 3), Neuron(1, 1), Neuron(1, 7)]
    assert neurons.counts().tolist() == [1, 2, 0, 0]
    assert {layer: indices.tolist() for layer, indices in neurons.by_layer().items()} == {0: [3], 1: [1, 7]}
    assert neurons.mask().sum() == 3
    assert neurons.mask()[1, 7]
    assert NeuronSet.from_mask(neurons.mask()) == neurons
    assert repr(neurons) == "NeuronSet(3 of 4 x 100)"


def test_equality_needs_the_same_shape():
    assert NeuronSet([3, 1], SHAPE) == NeuronSet(np.array([1, 3]), SHAPE)
    assert hash(NeuronSet([3, 1], SHAPE)) == hash(NeuronSet([1, 3], SHAPE))
    assert NeuronSet([1], SHAPE) != NeuronSet([1], (2, 200))
    assert NeuronSet([1], SHAPE) != NeuronSet([2], SHAPE)


def test_a_set_cannot_be_changed():
    flat = np.array([1, 2])
    neurons = NeuronSet(flat, SHAPE)
    flat[0] = 7
    assert neurons.flat.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        neurons.flat[0] = 7


def test_names():
    assert str(Neuron(5, 123)) == "L5.N123"
    assert Neuron(5, 123).hook == "blocks.5.mlp.hook_post[123]"
    assert hook_name(5) == "blocks.5.mlp.hook_post"
